// Streams words through a design that Yosys wrote as C++ (write_cxxrtl), one clock cycle at a time.
// Compiled together with model.cc into a library that sim/compile.py loads; the only names it exports
// are the extern "C" functions below. A word of B bits is ceil(B / 64) little-endian uint64_t.
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

enum Pattern : int32_t { ALWAYS, RANDOM, SLOW, BURST };

// xorshift64*: the two sides of a stream take their gaps from generators of their own.
struct Gaps {
  Pattern pattern;
  uint64_t state;
  uint32_t left = 0;
  bool on = false;

  uint32_t draw() {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return uint32_t((state * 0x2545F4914F6CDD1DULL) >> 32);
  }

  bool next() {
    switch (pattern) {
      case ALWAYS: return true;
      case RANDOM: return draw() & 1;
      case SLOW: return (draw() & 7) == 0;
      case BURST:
        if (left == 0) {
          on = !on;
          left = 1 + (draw() & 15);
        }
        left--;
        return on;
    }
    return true;
  }
};

template <size_t B> const value<B> &now(const value<B> &port) { return port; }
template <size_t B> const value<B> &now(const wire<B> &port) { return port.curr; }
template <size_t B> value<B> &now(value<B> &port) { return port; }
template <size_t B> value<B> &drive(value<B> &port) { return port; }
// A wire takes its value on commit: next is what the design reads from then on.
template <size_t B> value<B> &drive(wire<B> &port) { return port.next; }

template <class Port> void put_bit(Port &port, bool bit) { drive(port).data[0] = bit; }
template <class Port> bool get_bit(const Port &port) { return now(port).data[0] & 1; }

template <size_t B> void put_words(value<B> &port, const uint64_t *words) {
  for (size_t n = 0; n < value<B>::chunks; n++)
    port.data[n] = uint32_t(words[n / 2] >> (32 * (n % 2)));
  port.data[value<B>::chunks - 1] &= value<B>::msb_mask;
}

// While nothing is valid the payload must not matter, so it is made wrong.
template <size_t B> void spoil(value<B> &port) { port = port.bit_not(); }

template <size_t B> void get_words(const value<B> &port, uint64_t *words) {
  for (size_t n = 0; n < value<B>::chunks; n += 2) {
    uint64_t word = port.data[n];
    if (n + 1 < value<B>::chunks) word |= uint64_t(port.data[n + 1]) << 32;
    words[n / 2] = word;
  }
}

struct Run {
  cxxrtl_design::p_fewbit__top top;
  Gaps valid, ready;
  bool holding = false;  // i__valid is up and its word not yet taken
  int64_t cycle = 0;

  Run(int valid_pattern, int ready_pattern, uint64_t seed)
      : valid{Pattern(valid_pattern), seed * 2 + 0x9E3779B97F4A7C15ULL},
        ready{Pattern(ready_pattern), seed * 2 + 0xD1B54A32D192ED03ULL} {
    if (valid.state == 0) valid.state = 1;
    if (ready.state == 0) ready.state = 1;
    for (int n = 0; n < 8; n++) valid.draw(), ready.draw();
    put_bit(top.p_i____valid, false);
    put_bit(top.p_o____ready, false);
    reset(true);
    for (int n = 0; n < 2; n++) {
      clock(false);
      clock(true);
    }
    reset(false);
  }

  // Amaranth leaves out clk and rst where a design has no register.
  void clock(bool level) {
#ifdef HAS_CLK
    put_bit(top.p_clk, level);
#endif
    top.step();
  }

  void reset(bool level) {
#ifdef HAS_RST
    put_bit(top.p_rst, level);
#endif
  }
};

}  // namespace

EXPORT void *fewbit_open(int32_t valid_pattern, int32_t ready_pattern, uint64_t seed) {
  return new Run(valid_pattern, ready_pattern, seed);
}

// Holds from the next cycle on; a design without a quality takes no notice.
EXPORT void fewbit_quality(void *run, uint64_t quality) {
#ifdef HAS_QUALITY
  put_words(drive(static_cast<Run *>(run)->top.p_quality), &quality);
#endif
}

// A word of 16 bits a cycle, before any frame and outside the count of cycles; a design that takes none has no `load`.
EXPORT void fewbit_load(void *handle, const uint16_t *words, int64_t n) {
#ifdef HAS_LOAD
  Run &run = *static_cast<Run *>(handle);
  for (int64_t k = 0; k < n; k++) {
    const uint64_t word = words[k];
    put_words(drive(run.top.p_load____payload), &word);
    put_bit(run.top.p_load____valid, true);
    run.clock(false);
    run.clock(true);
  }
  put_bit(run.top.p_load____valid, false);
#endif
}

EXPORT void fewbit_close(void *handle) { delete static_cast<Run *>(handle); }

// Runs until all n_out words are out or `cycles` cycles have passed. progress[0..2] hold the words
// taken, the words delivered and the cycles run so far, and are carried from call to call.
EXPORT void fewbit_advance(void *handle, const uint64_t *in, int64_t n_in, int64_t in_stride,
                           uint64_t *out, int64_t n_out, int64_t out_stride, int64_t *in_cycles,
                           int64_t *out_cycles, int64_t cycles, int64_t *progress) {
  Run &run = *static_cast<Run *>(handle);
  int64_t taken = progress[0], delivered = progress[1];
  const int64_t stop = run.cycle + cycles;
  while (delivered < n_out && run.cycle < stop) {
    if (!run.holding && run.valid.next() && taken < n_in) {
      run.holding = true;
      put_words(drive(run.top.p_i____payload), in + taken * in_stride);
    }
    put_bit(run.top.p_i____valid, run.holding);
    const bool ready = run.ready.next();
    put_bit(run.top.p_o____ready, ready);
    run.clock(false);
    const bool take = run.holding && get_bit(run.top.p_i____ready);
    if (ready && get_bit(run.top.p_o____valid)) {
      get_words(now(run.top.p_o____payload), out + delivered * out_stride);
      out_cycles[delivered++] = run.cycle;
    }
    run.clock(true);
    if (take) {
      in_cycles[taken++] = run.cycle;
      run.holding = false;
      spoil(drive(run.top.p_i____payload));
    }
    run.cycle++;
  }
  progress[0] = taken;
  progress[1] = delivered;
  progress[2] = run.cycle;
}
