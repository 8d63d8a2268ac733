// Ends of ECP5 carry chains left open. nextpnr spends two LUTs on a carry-in that is the constant 0 and two on a carry-out
// that goes nowhere, but nothing on either if it is not connected. A carry-in may only be left open where the first slot
// does not pass it on. With LAST defined, for cells whose carry-out goes nowhere.
(* techmap_celltype = "CCU2C" *)
module fewbit_open_carries(input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter [15:0] INIT0 = 0, INIT1 = 0;
  parameter INJECT1_0 = "YES", INJECT1_1 = "YES";
  parameter [0:0] _TECHMAP_CONSTMSK_CIN_ = 0, _TECHMAP_CONSTVAL_CIN_ = 0;
  parameter [0:0] _TECHMAP_CONSTMSK_A0_ = 0, _TECHMAP_CONSTVAL_A0_ = 0;
  parameter [0:0] _TECHMAP_CONSTMSK_B0_ = 0, _TECHMAP_CONSTVAL_B0_ = 0;
  parameter [0:0] _TECHMAP_CONSTMSK_C0_ = 0, _TECHMAP_CONSTVAL_C0_ = 0;
  parameter [0:0] _TECHMAP_CONSTMSK_D0_ = 0, _TECHMAP_CONSTVAL_D0_ = 0;

  // An input that is unknown may be either, and one that is not connected too.
  localparam [3:0] FIXED = {
    _TECHMAP_CONSTMSK_D0_ && _TECHMAP_CONSTVAL_D0_ !== 1'bx, _TECHMAP_CONSTMSK_C0_ && _TECHMAP_CONSTVAL_C0_ !== 1'bx,
    _TECHMAP_CONSTMSK_B0_ && _TECHMAP_CONSTVAL_B0_ !== 1'bx, _TECHMAP_CONSTMSK_A0_ && _TECHMAP_CONSTVAL_A0_ !== 1'bx
  };
  localparam [3:0] AT = {_TECHMAP_CONSTVAL_D0_, _TECHMAP_CONSTVAL_C0_, _TECHMAP_CONSTVAL_B0_, _TECHMAP_CONSTVAL_A0_};

  function passes(input [15:0] init);
    integer k;
    begin
      passes = 0;
      for (k = 0; k < 16; k = k + 1) if (((k ^ AT) & FIXED) == 0) passes = passes | init[k];
    end
  endfunction

  localparam OPEN = _TECHMAP_CONSTMSK_CIN_ && _TECHMAP_CONSTVAL_CIN_ !== 1'b1 && !passes(INIT0);
`ifndef LAST
  wire _TECHMAP_FAIL_ = !OPEN;
`endif
  CCU2C #(.INIT0(INIT0), .INIT1(INIT1), .INJECT1_0(INJECT1_0), .INJECT1_1(INJECT1_1)) _TECHMAP_REPLACE_ (
    .CIN(OPEN ? 1'bx : CIN), .A0(A0), .B0(B0), .C0(C0), .D0(D0), .A1(A1), .B1(B1), .C1(C1), .D1(D1), .S0(S0), .S1(S1),
`ifdef LAST
    .COUT(1'bx)
`else
    .COUT(COUT)
`endif
  );
endmodule
