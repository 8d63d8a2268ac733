// ECP5 cells that Yosys gives no behaviour: what synth_ecp5 uses of them, from the family's data sheet (FPGA-DS-02012)
// and memory usage guide (FPGA-TN-02204). Anything else is an error, so that no simulation passes by ignoring it.

// A look-up table as the gates that its contents come to, so that compiled simulation has a few operations for each.
module fewbit_lut #(parameter K = 1, parameter [(1 << K) - 1:0] INIT = 0) (input [K - 1:0] I, output O);
  localparam H = 1 << K - 1;
  localparam [H - 1:0] LOW = INIT[H - 1:0], HIGH = INIT[2 * H - 1:H];
  generate
    if (INIT == 0) assign O = 1'b0;
    else if (&INIT) assign O = 1'b1;
    else if (K == 1) assign O = INIT[1] ? I[0] : ~I[0];
    else begin
      wire low, high;
      fewbit_lut #(.K(K - 1), .INIT(LOW)) of_low (.I(I[K - 2:0]), .O(low));
      fewbit_lut #(.K(K - 1), .INIT(HIGH)) of_high (.I(I[K - 2:0]), .O(high));
      if (LOW == HIGH) assign O = low;
      else if (LOW == ~HIGH) assign O = low ^ I[K - 1];
      else if (LOW == 0) assign O = high & I[K - 1];
      else if (HIGH == 0) assign O = low & ~I[K - 1];
      else if (&LOW) assign O = high | ~I[K - 1];
      else if (&HIGH) assign O = low | I[K - 1];
      else assign O = I[K - 1] ? high : low;
    end
  endgenerate
endmodule

// Like Yosys' own model, in a form that compiles to faster simulations.
module LUT4 (input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  fewbit_lut #(.K(4), .INIT(INIT)) lut (.I({D, C, B, A}), .O(Z));
endmodule

// 18 Kbit of block RAM: 1024 rows of 18 bits, of which a port of up to 18 bits sees one and a port of 36 bits two, the
// lower address lowest. Widths 1, 2 and 4 leave bits 8 and 17 of a row out. In widths 18 and 36 the lowest address bits
// are the byte enables of a write. INITVAL_k holds rows 16 * k onwards, 20 bits apart. A port of 36 bits is the whole
// cell's: it writes {DIB, DIA} from port A and reads {DOB, DOA} by port B.
module DP16KD(
  input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2,
  DIA1, DIA0,
  input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input CLKA, CEA, OCEA, WEA, RSTA, CSA2, CSA1, CSA0,
  input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
  DIB1, DIB0,
  input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input CLKB, CEB, OCEB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2,
  DOA1, DOA0,
  output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2,
  DOB1, DOB0
);
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG";
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC";
  parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000";
  parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
  parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB";
  parameter GSR = "ENABLED";
  parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0;
  parameter [319:0] INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0;
  parameter [319:0] INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0;
  parameter [319:0] INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0;
  parameter [319:0] INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0;
  parameter [319:0] INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0;
  parameter [319:0] INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0;
  parameter [319:0] INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0;
  parameter [319:0] INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0;
  parameter [319:0] INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0;
  parameter [319:0] INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0;
  parameter [319:0] INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0;
  parameter [319:0] INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0;
  parameter [319:0] INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0;
  parameter [319:0] INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0;
  parameter [319:0] INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;

  generate
    if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG") $error("DP16KD: no model of output registers");
    if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000") $error("DP16KD: no model of CSDECODE");
    if ((DATA_WIDTH_A == 36) && WRITEMODE_A != "NORMAL") $error("DP16KD: no model of this write mode at 36 bits");
  endgenerate

  reg [17:0] mem [0:1023];
  integer row;
  initial for (row = 0; row < 16; row = row + 1) begin
    mem[0 + row] = INITVAL_00[row * 20 +: 18]; mem[16 + row] = INITVAL_01[row * 20 +: 18];
    mem[32 + row] = INITVAL_02[row * 20 +: 18]; mem[48 + row] = INITVAL_03[row * 20 +: 18];
    mem[64 + row] = INITVAL_04[row * 20 +: 18]; mem[80 + row] = INITVAL_05[row * 20 +: 18];
    mem[96 + row] = INITVAL_06[row * 20 +: 18]; mem[112 + row] = INITVAL_07[row * 20 +: 18];
    mem[128 + row] = INITVAL_08[row * 20 +: 18]; mem[144 + row] = INITVAL_09[row * 20 +: 18];
    mem[160 + row] = INITVAL_0A[row * 20 +: 18]; mem[176 + row] = INITVAL_0B[row * 20 +: 18];
    mem[192 + row] = INITVAL_0C[row * 20 +: 18]; mem[208 + row] = INITVAL_0D[row * 20 +: 18];
    mem[224 + row] = INITVAL_0E[row * 20 +: 18]; mem[240 + row] = INITVAL_0F[row * 20 +: 18];
    mem[256 + row] = INITVAL_10[row * 20 +: 18]; mem[272 + row] = INITVAL_11[row * 20 +: 18];
    mem[288 + row] = INITVAL_12[row * 20 +: 18]; mem[304 + row] = INITVAL_13[row * 20 +: 18];
    mem[320 + row] = INITVAL_14[row * 20 +: 18]; mem[336 + row] = INITVAL_15[row * 20 +: 18];
    mem[352 + row] = INITVAL_16[row * 20 +: 18]; mem[368 + row] = INITVAL_17[row * 20 +: 18];
    mem[384 + row] = INITVAL_18[row * 20 +: 18]; mem[400 + row] = INITVAL_19[row * 20 +: 18];
    mem[416 + row] = INITVAL_1A[row * 20 +: 18]; mem[432 + row] = INITVAL_1B[row * 20 +: 18];
    mem[448 + row] = INITVAL_1C[row * 20 +: 18]; mem[464 + row] = INITVAL_1D[row * 20 +: 18];
    mem[480 + row] = INITVAL_1E[row * 20 +: 18]; mem[496 + row] = INITVAL_1F[row * 20 +: 18];
    mem[512 + row] = INITVAL_20[row * 20 +: 18]; mem[528 + row] = INITVAL_21[row * 20 +: 18];
    mem[544 + row] = INITVAL_22[row * 20 +: 18]; mem[560 + row] = INITVAL_23[row * 20 +: 18];
    mem[576 + row] = INITVAL_24[row * 20 +: 18]; mem[592 + row] = INITVAL_25[row * 20 +: 18];
    mem[608 + row] = INITVAL_26[row * 20 +: 18]; mem[624 + row] = INITVAL_27[row * 20 +: 18];
    mem[640 + row] = INITVAL_28[row * 20 +: 18]; mem[656 + row] = INITVAL_29[row * 20 +: 18];
    mem[672 + row] = INITVAL_2A[row * 20 +: 18]; mem[688 + row] = INITVAL_2B[row * 20 +: 18];
    mem[704 + row] = INITVAL_2C[row * 20 +: 18]; mem[720 + row] = INITVAL_2D[row * 20 +: 18];
    mem[736 + row] = INITVAL_2E[row * 20 +: 18]; mem[752 + row] = INITVAL_2F[row * 20 +: 18];
    mem[768 + row] = INITVAL_30[row * 20 +: 18]; mem[784 + row] = INITVAL_31[row * 20 +: 18];
    mem[800 + row] = INITVAL_32[row * 20 +: 18]; mem[816 + row] = INITVAL_33[row * 20 +: 18];
    mem[832 + row] = INITVAL_34[row * 20 +: 18]; mem[848 + row] = INITVAL_35[row * 20 +: 18];
    mem[864 + row] = INITVAL_36[row * 20 +: 18]; mem[880 + row] = INITVAL_37[row * 20 +: 18];
    mem[896 + row] = INITVAL_38[row * 20 +: 18]; mem[912 + row] = INITVAL_39[row * 20 +: 18];
    mem[928 + row] = INITVAL_3A[row * 20 +: 18]; mem[944 + row] = INITVAL_3B[row * 20 +: 18];
    mem[960 + row] = INITVAL_3C[row * 20 +: 18]; mem[976 + row] = INITVAL_3D[row * 20 +: 18];
    mem[992 + row] = INITVAL_3E[row * 20 +: 18]; mem[1008 + row] = INITVAL_3F[row * 20 +: 18];
  end

  wire clk_a = CLKA ^ (CLKAMUX == "INV");
  wire en_a = CEA & ~(CSA2 | CSA1 | CSA0);
  wire [13:0] ad_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [17:0] di_a = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
  DIA4, DIA3, DIA2, DIA1, DIA0};
  reg [35:0] q_a = 0;
  wire [35:0] read_a;
  generate
    if (DATA_WIDTH_A == 36)
      assign read_a = {mem[{ad_a[13:5], 1'b1}], mem[{ad_a[13:5], 1'b0}]};
    else begin
      wire [17:0] word = mem[ad_a[13:4]];
      wire [8:0] half = ad_a[3] ? word[17:9] : word[8:0];
      wire [3:0] nibble = ad_a[2] ? half[7:4] : half[3:0];
      wire [1:0] pair = ad_a[1] ? nibble[3:2] : nibble[1:0];
      case (DATA_WIDTH_A)
        18: assign read_a = word;
        9: assign read_a = half;
        4: assign read_a = nibble;
        2: assign read_a = pair;
        1: assign read_a = ad_a[0] ? pair[1] : pair[0];
        default: $error("DP16KD: no such DATA_WIDTH_A");
      endcase
    end
    wire keep_a = !en_a || (WEA && WRITEMODE_A == "NORMAL");
    wire [35:0] next_a = WEA && WRITEMODE_A == "WRITETHROUGH" ? di_a : read_a;
    if (RESETMODE == "ASYNC") begin
      always @(posedge clk_a or posedge RSTA)
        if (RSTA) q_a <= 0;
        else if (!keep_a) q_a <= next_a;
    end else begin
      always @(posedge clk_a)
        if (RSTA) q_a <= 0;
        else if (!keep_a) q_a <= next_a;
    end
    if (DATA_WIDTH_A == 36) begin
      always @(posedge clk_a)
        if (en_a && WEA) begin
          if (ad_a[0]) mem[{ad_a[13:5], 1'b0}][8:0] <= di_a[8:0];
          if (ad_a[1]) mem[{ad_a[13:5], 1'b0}][17:9] <= di_a[17:9];
          if (ad_a[2]) mem[{ad_a[13:5], 1'b1}][8:0] <= di_b[8:0];
          if (ad_a[3]) mem[{ad_a[13:5], 1'b1}][17:9] <= di_b[17:9];
        end
    end else begin
      always @(posedge clk_a)
        if (en_a && WEA && !(RSTA && RESETMODE == "SYNC"))
          case (DATA_WIDTH_A)
            18: begin
              if (ad_a[0]) mem[ad_a[13:4]][8:0] <= di_a[8:0];
              if (ad_a[1]) mem[ad_a[13:4]][17:9] <= di_a[17:9];
            end
            9: mem[ad_a[13:4]][ad_a[3] * 9 +: 9] <= di_a[8:0];
            4: mem[ad_a[13:4]][ad_a[3] * 9 + ad_a[2] * 4 +: 4] <= di_a[3:0];
            2: mem[ad_a[13:4]][ad_a[3] * 9 + ad_a[2:1] * 2 +: 2] <= di_a[1:0];
            1: mem[ad_a[13:4]][ad_a[3] * 9 + ad_a[2:0]] <= di_a[0];
          endcase
    end
  endgenerate

  wire clk_b = CLKB ^ (CLKBMUX == "INV");
  wire en_b = CEB & ~(CSB2 | CSB1 | CSB0);
  wire [13:0] ad_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [17:0] di_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
  DIB4, DIB3, DIB2, DIB1, DIB0};
  reg [35:0] q_b = 0;
  wire [35:0] read_b;
  generate
    if (DATA_WIDTH_B == 36)
      assign read_b = {mem[{ad_b[13:5], 1'b1}], mem[{ad_b[13:5], 1'b0}]};
    else begin
      wire [17:0] word = mem[ad_b[13:4]];
      wire [8:0] half = ad_b[3] ? word[17:9] : word[8:0];
      wire [3:0] nibble = ad_b[2] ? half[7:4] : half[3:0];
      wire [1:0] pair = ad_b[1] ? nibble[3:2] : nibble[1:0];
      case (DATA_WIDTH_B)
        18: assign read_b = word;
        9: assign read_b = half;
        4: assign read_b = nibble;
        2: assign read_b = pair;
        1: assign read_b = ad_b[0] ? pair[1] : pair[0];
        default: $error("DP16KD: no such DATA_WIDTH_B");
      endcase
    end
    wire keep_b = !en_b || (WEB && WRITEMODE_B == "NORMAL");
    wire [35:0] next_b = WEB && WRITEMODE_B == "WRITETHROUGH" ? di_b : read_b;
    if (RESETMODE == "ASYNC") begin
      always @(posedge clk_b or posedge RSTB)
        if (RSTB) q_b <= 0;
        else if (!keep_b) q_b <= next_b;
    end else begin
      always @(posedge clk_b)
        if (RSTB) q_b <= 0;
        else if (!keep_b) q_b <= next_b;
    end
    if (DATA_WIDTH_B != 36) begin
      always @(posedge clk_b)
        if (en_b && WEB && !(RSTB && RESETMODE == "SYNC"))
          case (DATA_WIDTH_B)
            18: begin
              if (ad_b[0]) mem[ad_b[13:4]][8:0] <= di_b[8:0];
              if (ad_b[1]) mem[ad_b[13:4]][17:9] <= di_b[17:9];
            end
            9: mem[ad_b[13:4]][ad_b[3] * 9 +: 9] <= di_b[8:0];
            4: mem[ad_b[13:4]][ad_b[3] * 9 + ad_b[2] * 4 +: 4] <= di_b[3:0];
            2: mem[ad_b[13:4]][ad_b[3] * 9 + ad_b[2:1] * 2 +: 2] <= di_b[1:0];
            1: mem[ad_b[13:4]][ad_b[3] * 9 + ad_b[2:0]] <= di_b[0];
          endcase
    end
  endgenerate

  wire [17:0] do_a = DATA_WIDTH_B == 36 ? q_b[17:0] : q_a[17:0];
  wire [17:0] do_b = DATA_WIDTH_B == 36 ? q_b[35:18] : q_b[17:0];
  assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3,
  DOA2, DOA1, DOA0} = do_a;
  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3,
  DOB2, DOB1, DOB0} = do_b;
endmodule

// The multiplier without its registers, which synth_ecp5 does not use.
module MULT18X18D(
  input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
  input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
  input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16,
  P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
  wire signed [18:0] a = {SIGNEDA & A17, A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2,
  A1, A0};
  wire signed [18:0] b = {SIGNEDB & B17, B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2,
  B1, B0};
  wire signed [37:0] product = a * b;
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16,
  P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = product[35:0];
endmodule
