// iCE40 cells with the behaviour of Yosys' own models in a form that compiles to faster simulations.
// tests/test_netlist.py compares the two.

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

module SB_LUT4 (output O, input I0, I1, I2, I3);
  parameter [15:0] LUT_INIT = 0;
  fewbit_lut #(.K(4), .INIT(LUT_INIT)) lut (.I({I3, I2, I1, I0}), .O(O));
endmodule

module SB_CARRY (output CO, input I0, I1, CI);
  assign CO = (I0 & I1) | ((I0 | I1) & CI);
endmodule

// 4 Kbit of block RAM: 256 rows of 16 bits. In modes 1, 2 and 3 an element has 8, 4 or 2 bits, its bits lie 2, 4 or 8
// apart in a row, and the upper address bits say where between them. INIT_k holds rows 16 * k onwards.
module SB_RAM40_4K (
  output [15:0] RDATA,
  input RCLK, RCLKE, RE, input [10:0] RADDR,
  input WCLK, WCLKE, WE, input [10:0] WADDR, input [15:0] MASK, input [15:0] WDATA
);
  parameter WRITE_MODE = 0, READ_MODE = 0, INIT_FILE = "";
  parameter [255:0] INIT_0 = 0, INIT_1 = 0, INIT_2 = 0, INIT_3 = 0, INIT_4 = 0, INIT_5 = 0, INIT_6 = 0, INIT_7 = 0;
  parameter [255:0] INIT_8 = 0, INIT_9 = 0, INIT_A = 0, INIT_B = 0, INIT_C = 0, INIT_D = 0, INIT_E = 0, INIT_F = 0;

  reg [15:0] memory [0:255];
  integer row;
  initial for (row = 0; row < 16; row = row + 1) begin
    memory[0 + row] = INIT_0[row * 16 +: 16]; memory[16 + row] = INIT_1[row * 16 +: 16];
    memory[32 + row] = INIT_2[row * 16 +: 16]; memory[48 + row] = INIT_3[row * 16 +: 16];
    memory[64 + row] = INIT_4[row * 16 +: 16]; memory[80 + row] = INIT_5[row * 16 +: 16];
    memory[96 + row] = INIT_6[row * 16 +: 16]; memory[112 + row] = INIT_7[row * 16 +: 16];
    memory[128 + row] = INIT_8[row * 16 +: 16]; memory[144 + row] = INIT_9[row * 16 +: 16];
    memory[160 + row] = INIT_A[row * 16 +: 16]; memory[176 + row] = INIT_B[row * 16 +: 16];
    memory[192 + row] = INIT_C[row * 16 +: 16]; memory[208 + row] = INIT_D[row * 16 +: 16];
    memory[224 + row] = INIT_E[row * 16 +: 16]; memory[240 + row] = INIT_F[row * 16 +: 16];
  end

  wire [15:0] mask, data;
  reg [15:0] word = 0;
  reg [2:0] place = 0;
  generate
    if (INIT_FILE != "") $error("SB_RAM40_4K: no model of INIT_FILE");
    case (WRITE_MODE)
      0: assign mask = ~MASK, data = WDATA;
      1: assign mask = 16'h5555 << WADDR[8], data = (WDATA & 16'h5555) | (WDATA & 16'h5555) << 1;
      2: assign mask = 16'h1111 << WADDR[9:8], data = {{4{WDATA[13]}}, {4{WDATA[9]}}, {4{WDATA[5]}}, {4{WDATA[1]}}};
      3: assign mask = 16'h0101 << WADDR[10:8], data = {{8{WDATA[11]}}, {8{WDATA[3]}}};
    endcase
    case (READ_MODE)
      0: assign RDATA = word;
      1: assign RDATA = word >> place[0] & 16'h5555;
      2: assign RDATA = (word >> place[1:0] & 16'h1111) << 1;
      3: assign RDATA = (word >> place & 16'h0101) << 3;
    endcase
  endgenerate
  always @(posedge WCLK) if (WE & WCLKE) memory[WADDR[7:0]] <= (memory[WADDR[7:0]] & ~mask) | (data & mask);
  always @(posedge RCLK) if (RE & RCLKE) begin
    word <= memory[RADDR[7:0]];
    place <= RADDR[10:8];
  end
endmodule

// Single-port RAM of 16,384 words by 16 bits, written in fours. Yosys' own takes 16,384 registers for it. What stands on
// DATAOUT after a write is undefined: here it is wrong.
module SB_SPRAM256KA (
  input [13:0] ADDRESS, input [15:0] DATAIN, input [3:0] MASKWREN,
  input WREN, CHIPSELECT, CLOCK, STANDBY, SLEEP, POWEROFF,
  output reg [15:0] DATAOUT
);
  reg [15:0] memory [0:16383];
  wire [15:0] mask = {{4{MASKWREN[3]}}, {4{MASKWREN[2]}}, {4{MASKWREN[1]}}, {4{MASKWREN[0]}}};
  wire on = CHIPSELECT & POWEROFF & ~SLEEP & ~STANDBY;
  always @(posedge CLOCK) begin
    if (on & WREN) memory[ADDRESS] <= (memory[ADDRESS] & ~mask) | (DATAIN & mask);
    if (on) DATAOUT <= WREN ? ~DATAIN : memory[ADDRESS];
  end
endmodule

// PLLs, once simulation counts the cycles of what they make: locked, and with the clock they are given.
module SB_PLL40_CORE (
  input REFERENCECLK, EXTFEEDBACK, BYPASS, RESETB, LATCHINPUTVALUE, SDI, SCLK, input [7:0] DYNAMICDELAY,
  output PLLOUTCORE, PLLOUTGLOBAL, LOCK, SDO
);
  parameter FEEDBACK_PATH = "SIMPLE", PLLOUT_SELECT = "GENCLK", ENABLE_ICEGATE = 0, TEST_MODE = 0;
  parameter DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED", DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED", SHIFTREG_DIV_MODE = 0;
  parameter FDA_FEEDBACK = 0, FDA_RELATIVE = 0, DIVR = 0, DIVF = 0, DIVQ = 0, FILTER_RANGE = 0;
  generate
    if (FEEDBACK_PATH != "SIMPLE" || PLLOUT_SELECT != "GENCLK" || TEST_MODE) $error("SB_PLL40: no model of this mode");
  endgenerate
  assign LOCK = RESETB & ~BYPASS, SDO = 1'b0;
  assign PLLOUTCORE = REFERENCECLK & LOCK, PLLOUTGLOBAL = REFERENCECLK & LOCK;
endmodule

module SB_PLL40_PAD (
  input PACKAGEPIN, EXTFEEDBACK, BYPASS, RESETB, LATCHINPUTVALUE, SDI, SCLK, input [7:0] DYNAMICDELAY,
  output PLLOUTCORE, PLLOUTGLOBAL, LOCK, SDO
);
  parameter FEEDBACK_PATH = "SIMPLE", PLLOUT_SELECT = "GENCLK", ENABLE_ICEGATE = 0, TEST_MODE = 0;
  parameter DELAY_ADJUSTMENT_MODE_FEEDBACK = "FIXED", DELAY_ADJUSTMENT_MODE_RELATIVE = "FIXED", SHIFTREG_DIV_MODE = 0;
  parameter FDA_FEEDBACK = 0, FDA_RELATIVE = 0, DIVR = 0, DIVF = 0, DIVQ = 0, FILTER_RANGE = 0;
  SB_PLL40_CORE #(.FEEDBACK_PATH(FEEDBACK_PATH), .PLLOUT_SELECT(PLLOUT_SELECT), .TEST_MODE(TEST_MODE)) core (
    .REFERENCECLK(PACKAGEPIN), .EXTFEEDBACK(EXTFEEDBACK), .BYPASS(BYPASS), .RESETB(RESETB),
    .LATCHINPUTVALUE(LATCHINPUTVALUE), .SDI(SDI), .SCLK(SCLK), .DYNAMICDELAY(DYNAMICDELAY),
    .PLLOUTCORE(PLLOUTCORE), .PLLOUTGLOBAL(PLLOUTGLOBAL), .LOCK(LOCK), .SDO(SDO)
  );
endmodule
