// Talks 8N1 over two pins to a design that Yosys wrote as C++ (write_cxxrtl), a clock cycle at a time.
// Compiled together with model.cc into a library that sim/bitstream.py loads.
#include "model.cc"

#include <cstdint>

#ifdef _WIN32
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

using cxxrtl::value;
using cxxrtl::wire;

template <size_t B> const value<B> &now(const value<B> &port) { return port; }
template <size_t B> const value<B> &now(const wire<B> &port) { return port.curr; }
template <size_t B> value<B> &drive(value<B> &port) { return port; }
template <size_t B> value<B> &drive(wire<B> &port) { return port.next; }

struct Run {
  cxxrtl_design::p_fewbit__top top;
  const int64_t divisor;
  int64_t cycle = 0;
  int64_t sent = 0, received = 0, broken = 0;
  // The byte on its way in, with start and stop bit: what is left of it, and the cycles left of the present bit.
  uint32_t sending = 0;
  int64_t bits_left = 0, bit_timer = 0;
  // The byte on its way out: bits seen, and the cycles until the middle of the next; -1 while the line is idle.
  uint32_t taken = 0;
  int64_t bits_seen = 0, sample_timer = -1;
  bool idle_seen = false;

  explicit Run(int64_t divisor) : divisor(divisor) {
    drive(top.p_rx).data[0] = 1;
  }

  void send(bool may_begin, const uint8_t *in) {
    if (bit_timer > 0) {
      bit_timer--;
    } else if (bits_left > 0) {
      sending >>= 1;
      bits_left--;
      bit_timer = divisor - 1;
      if (bits_left == 0) bit_timer = 0;
    }
    if (bits_left == 0 && may_begin) {
      sending = 0x200u | uint32_t(in[sent++]) << 1;
      bits_left = 10;
      bit_timer = divisor - 1;
    }
    drive(top.p_rx).data[0] = bits_left > 0 ? sending & 1 : 1;
  }

  void receive(bool line, uint8_t *out) {
    if (sample_timer < 0) {
      // Before its first high level the line says nothing: the device may still be in reset.
      if (line) idle_seen = true;
      else if (idle_seen) {
        sample_timer = divisor / 2;
        bits_seen = 0;
      }
      return;
    }
    if (sample_timer-- > 0) return;
    sample_timer = divisor - 1;
    if (bits_seen == 0 && line) sample_timer = -1;  // a glitch, no start bit
    else if (bits_seen > 0 && bits_seen < 9) taken = taken >> 1 | uint32_t(line) << 7;
    else if (bits_seen == 9) {
      if (line) out[received++] = uint8_t(taken);
      else broken++, idle_seen = false;
      sample_timer = -1;
    }
    bits_seen++;
  }
};

}  // namespace

EXPORT void *fewbit_open(int64_t divisor) { return new Run(divisor); }

EXPORT void fewbit_close(void *handle) { delete static_cast<Run *>(handle); }

// Runs until n_out bytes have come or `cycles` cycles have passed. Sending begins in cycle `start`; no more than `window`
// requests are ever without a complete reply. progress[0..3]: bytes sent, bytes received, broken bytes, cycles so far.
EXPORT void fewbit_advance(void *handle, const uint8_t *in, int64_t n_in, uint8_t *out, int64_t n_out,
                           int64_t request, int64_t reply, int64_t window, int64_t start, int64_t cycles,
                           int64_t *progress) {
  Run &run = *static_cast<Run *>(handle);
  const int64_t stop = run.cycle + cycles;
  while (run.received < n_out && run.cycle < stop) {
    const bool room = run.sent < (run.received / reply + window) * request;
    run.send(run.cycle >= start && run.sent < n_in && room, in);
    drive(run.top.p_clk).data[0] = 0;
    run.top.step();
    run.receive(now(run.top.p_tx).data[0] & 1, out);
    drive(run.top.p_clk).data[0] = 1;
    run.top.step();
    run.cycle++;
  }
  progress[0] = run.sent;
  progress[1] = run.received;
  progress[2] = run.broken;
  progress[3] = run.cycle;
}
