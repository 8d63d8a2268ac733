// Maps the block RAM that Yosys' memory_libmap chooses for iCE40 to the device's SB_RAM40_4K.
//
// Yosys' own map computes each cell's contents with a loop over its 4,096 bits, which is slow; the same contents
// come here from four shifts of the whole vector. A row of 16 bits is stored with the four bits of its column number
// reversed, so that the address bits below a row select what the device selects, in each of its four widths.
module \$__ICE40_RAM4K_ (PORT_R_CLK, PORT_R_RD_EN, PORT_R_ADDR, PORT_R_RD_DATA,
                         PORT_W_CLK, PORT_W_WR_EN, PORT_W_WR_BE, PORT_W_ADDR, PORT_W_WR_DATA);
  parameter INIT = 0;
  parameter OPTION_HAS_BE = 1;
  parameter PORT_R_WIDTH = 16;
  parameter PORT_W_WIDTH = 16;
  parameter PORT_W_WR_BE_WIDTH = 16;
  parameter PORT_R_CLK_POL = 1;
  parameter PORT_W_CLK_POL = 1;

  input PORT_R_CLK, PORT_R_RD_EN, PORT_W_CLK, PORT_W_WR_EN;
  input [10:0] PORT_R_ADDR, PORT_W_ADDR;
  output [PORT_R_WIDTH-1:0] PORT_R_RD_DATA;
  input [PORT_W_WIDTH-1:0] PORT_W_WR_DATA;
  input [PORT_W_WR_BE_WIDTH-1:0] PORT_W_WR_BE;

  // Column number b3 b2 b1 b0 to b0 b2 b1 b3, then to b0 b1 b2 b3.
  localparam [4095:0] GIVEN = INIT;
  localparam [4095:0] OUTER = (GIVEN & {256{16'haa55}}) | ((GIVEN & {256{16'h00aa}}) << 7) | ((GIVEN >> 7) & {256{16'h00aa}});
  localparam [4095:0] STORED = (OUTER & {256{16'hc3c3}}) | ((OUTER & {256{16'h0c0c}}) << 2) | ((OUTER >> 2) & {256{16'h0c0c}});

  // Narrow words stand on every second, fourth or eighth line of the port, from line 0, 1 or 3 on.
  localparam R_FIRST = PORT_R_WIDTH == 2 ? 3 : PORT_R_WIDTH == 4 ? 1 : 0;
  localparam W_FIRST = PORT_W_WIDTH == 2 ? 3 : PORT_W_WIDTH == 4 ? 1 : 0;
  localparam [1:0] R_MODE = PORT_R_WIDTH == 16 ? 0 : PORT_R_WIDTH == 8 ? 1 : PORT_R_WIDTH == 4 ? 2 : 3;
  localparam [1:0] W_MODE = PORT_W_WIDTH == 16 ? 0 : PORT_W_WIDTH == 8 ? 1 : PORT_W_WIDTH == 4 ? 2 : 3;

  wire [15:0] RDATA, WDATA, MASK;
  wire [10:0] RADDR = {PORT_R_ADDR[0], PORT_R_ADDR[1], PORT_R_ADDR[2], PORT_R_ADDR[10:3]};
  wire [10:0] WADDR = {PORT_W_ADDR[0], PORT_W_ADDR[1], PORT_W_ADDR[2], PORT_W_ADDR[10:3]};

  genvar d;
  generate
    for (d = 0; d < PORT_R_WIDTH; d = d + 1)
      assign PORT_R_RD_DATA[d] = RDATA[R_FIRST + (d & 1) * 8 + (d >> 1 & 1) * 4 + (d >> 2 & 1) * 2 + (d >> 3 & 1)];
    for (d = 0; d < PORT_W_WIDTH; d = d + 1)
      assign WDATA[W_FIRST + (d & 1) * 8 + (d >> 1 & 1) * 4 + (d >> 2 & 1) * 2 + (d >> 3 & 1)] = PORT_W_WR_DATA[d];
    if (PORT_W_WIDTH == 16)
      for (d = 0; d < 16; d = d + 1)
        assign MASK[(d & 1) * 8 + (d >> 1 & 1) * 4 + (d >> 2 & 1) * 2 + (d >> 3 & 1)] = ~PORT_W_WR_BE[d];
  endgenerate

  `define FEWBIT_RAM(KIND, R, W) \
    KIND #( \
      .INIT_0(STORED[0 * 256 +: 256]), .INIT_1(STORED[1 * 256 +: 256]), .INIT_2(STORED[2 * 256 +: 256]), \
      .INIT_3(STORED[3 * 256 +: 256]), .INIT_4(STORED[4 * 256 +: 256]), .INIT_5(STORED[5 * 256 +: 256]), \
      .INIT_6(STORED[6 * 256 +: 256]), .INIT_7(STORED[7 * 256 +: 256]), .INIT_8(STORED[8 * 256 +: 256]), \
      .INIT_9(STORED[9 * 256 +: 256]), .INIT_A(STORED[10 * 256 +: 256]), .INIT_B(STORED[11 * 256 +: 256]), \
      .INIT_C(STORED[12 * 256 +: 256]), .INIT_D(STORED[13 * 256 +: 256]), .INIT_E(STORED[14 * 256 +: 256]), \
      .INIT_F(STORED[15 * 256 +: 256]), .READ_MODE(R_MODE), .WRITE_MODE(W_MODE) \
    ) _TECHMAP_REPLACE_ ( \
      .RDATA(RDATA), .R(PORT_R_CLK), .RCLKE(PORT_R_RD_EN), .RE(1'b1), .RADDR(RADDR), \
      .WDATA(WDATA), .W(PORT_W_CLK), .WCLKE(PORT_W_WR_EN), .WE(1'b1), .WADDR(WADDR), .MASK(MASK) \
    );

  generate
    if (PORT_R_CLK_POL && PORT_W_CLK_POL) begin
      `FEWBIT_RAM(SB_RAM40_4K, RCLK, WCLK)
    end else if (PORT_R_CLK_POL) begin
      `FEWBIT_RAM(SB_RAM40_4KNW, RCLK, WCLKN)
    end else if (PORT_W_CLK_POL) begin
      `FEWBIT_RAM(SB_RAM40_4KNR, RCLKN, WCLK)
    end else begin
      `FEWBIT_RAM(SB_RAM40_4KNRNW, RCLKN, WCLKN)
    end
  endgenerate
endmodule
