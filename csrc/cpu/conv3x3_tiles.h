// The 3x3 convolution, tiles after tiles: what a thread does. Included by for_each_isa.h inside
// bdp_ext::<isa>; no include guard.

#include "cpu/conv3x3_kernel.h"

// Floats from point to point: of tiles as [points][channels / 16][room][16], of weights as
// [points][..][in][out]. A cache line more than there is: a power of two would put all points into
// few sets of the cache.
inline int64_t PointStep(int64_t channels, int64_t room) { return channels * room + kLine; }

inline void TransformInputs(const Conv3x3Shape& s, const float* image, int64_t begin, int64_t tiles,
                            int64_t room, float* v) {
  const int64_t step = PointStep(s.in_channels, room);
  Walk walk(s, begin);
  for (int64_t i = 0; i < tiles; ++i, walk.Next()) {
    const Patch patch = walk.PatchOf(image, s.in_channels, 1, kPoints);
    const bool inside = IsInside(patch, kPoints);
    for (int64_t c = 0; c < s.in_channels; c += kLanes) {
      float* first = v + c / kBlock * kBlock * room + i * kBlock + c % kBlock;
      float* second = first + kHalf * kPoints * step;
      if (inside) {
        TransformInput<0, true>(patch, c, first, step);
        TransformInput<1, true>(patch, c, second, step);
      } else {
        TransformInput<0, false>(patch, c, first, step);
        TransformInput<1, false>(patch, c, second, step);
      }
    }
  }
}

inline void TransformGrads(const Conv3x3Shape& s, const float* image, int64_t begin, int64_t tiles,
                           int64_t room, float* v) {
  const int64_t step = PointStep(s.out_channels, room);
  Walk walk(s, begin);
  for (int64_t i = 0; i < tiles; ++i, walk.Next()) {
    const Patch patch = walk.PatchOf(image, s.out_channels, 0, kTile);
    const bool inside = IsInside(patch, kTile);
    for (int64_t c = 0; c < s.out_channels; c += kLanes) {
      float* to = v + c / kBlock * kBlock * room + i * kBlock + c % kBlock;
      inside ? TransformGrad<true>(patch, c, to, step) : TransformGrad<false>(patch, c, to, step);
    }
  }
}

inline void TransformOutputs(const Conv3x3Shape& s, const float* m, int64_t begin, int64_t tiles,
                             int64_t room, float* image) {
  const int64_t step = PointStep(s.out_channels, room);
  Walk walk(s, begin);
  for (int64_t i = 0; i < tiles; ++i, walk.Next()) {
    const Patch patch = walk.PatchOf(image, s.out_channels, 0, kTile);
    const bool inside = IsInside(patch, kTile);
    float* origin = image + (patch.origin - image);
    for (int64_t c = 0; c < s.out_channels; c += kLanes) {
      const float* from = m + c / kBlock * kBlock * room + i * kBlock + c % kBlock;
      inside ? TransformOutput<true>(from, step, patch, origin + c)
             : TransformOutput<false>(from, step, patch, origin + c);
    }
  }
}

constexpr int kSums = kLanes == 16 ? 28 : 12;  // vectors of sums that the registers hold

// The products of some tiles at one point, with kBlocks blocks of output channels. The last tiles
// are computed together with some that were before, or with what lies in the room behind them.
template <int kBlocks>
inline void MultiplyTiles(const float* v, int64_t tiles, int64_t room, const float* u,
                          int64_t depth, float* m) {
  constexpr int kRows = kSums / kVectors / kBlocks;
  for (int64_t i = 0; i < tiles; i += kRows) {
    const int64_t last = tiles - kRows, from = (i < last ? i : last < 0 ? 0 : last) * kBlock;
    Product<kRows, kBlocks>(v + from, room * kBlock, u, depth, m + from, room * kBlock);
  }
}

// G w G^T for input channels [begin, end): taps is [9][in][out], u [36][out / 16][in][16].
inline void Conv3x3Points(const Conv3x3Shape& s, const float* taps, int64_t begin, int64_t end,
                          float* u) {
  const int64_t in = s.in_channels, out = s.out_channels;
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t o = 0; o < out; o += kLanes) {
      F t[3][kPoints];
#pragma GCC unroll 3
      for (int x = 0; x < 3; ++x) {
        F w[3];
#pragma GCC unroll 3
        for (int y = 0; y < 3; ++y) w[y] = Load(taps + ((y * 3 + x) * in + i) * out + o);
        WeightPoints(w, t[x]);
      }
      float* to = u + (o / kBlock * in + i) * kBlock + o % kBlock;
#pragma GCC unroll 6
      for (int y = 0; y < kPoints; ++y) {
        const F w[3] = {t[0][y], t[1][y], t[2][y]};
        F points[kPoints];
        WeightPoints(w, points);
#pragma GCC unroll 6
        for (int x = 0; x < kPoints; ++x)
          Store(to + (y * kPoints + x) * PointStep(in, out), points[x]);
      }
    }
  }
}

inline void Conv3x3Tiles(const Conv3x3Shape& s, const float* input, const float* u, int64_t begin,
                         int64_t end, int64_t room, float* v, float* m, float* output) {
  const int64_t in = s.in_channels, out = s.out_channels;
  const int64_t v_step = PointStep(in, room), m_step = PointStep(out, room);
  const bool pairs = kLanes == 16 && out % (2 * kBlock) == 0;
  const int64_t width = pairs ? 2 * kBlock : kBlock, steps = kPoints * kPoints * out / width;
  for (int64_t from = begin; from < end; from += room) {
    const int64_t tiles = end - from < room ? end - from : room;
    TransformInputs(s, input, from, tiles, room, v);
    const int64_t rest = end - from - tiles, next = rest < room ? rest : room;
    // Of an input tile, the first row and column have come with the tiles before.
    Prefetch inputs(s, input, in, from + tiles, next, -1, steps);
    Prefetch outputs(s, output, out, from, tiles, 0, steps);
    for (int64_t point = 0; point < kPoints * kPoints; ++point) {
      const float* left = v + point * v_step;
      const float* right = u + point * PointStep(in, out);
      float* product = m + point * m_step;
      for (int64_t o = 0; o < out; o += width) {
        inputs.Step();
        outputs.Step();
        pairs ? MultiplyTiles<2>(left, tiles, room, right + o * in, in, product + o * room)
              : MultiplyTiles<1>(left, tiles, room, right + o * in, in, product + o * room);
      }
    }
    TransformOutputs(s, m, from, tiles, room, output);
  }
}

// The sums over some tiles at one point, for all input channels and kBlocks blocks of output
// channels: u is [in / 16][out / 16][16][16].
template <int kBlocks>
inline void SumTiles(const float* v, const float* w, int64_t tiles, int64_t room, int64_t in,
                     int64_t out, bool first, float* u) {
  constexpr int kRows = (kLanes == 16 ? 16 : 8) / kVectors / kBlocks;
  for (int64_t i = 0; i < in; i += kRows) {
    const int64_t block = i / kBlock, row = i % kBlock;
    SumOverTiles<kRows, kBlocks>(v + block * room * kBlock + row, w, room * kBlock, tiles, first,
                                 u + (block * out + row) * kBlock);
  }
}

// The weight gradient's part of tiles [begin, end), which must not be empty: sums is [9][in][out].
// Behind them lie the next part's tiles.
inline void Conv3x3WeightSums(const Conv3x3Shape& s, const float* grad, const float* input,
                              int64_t begin, int64_t end, int64_t room, float* v, float* w,
                              float* u, float* sums) {
  const int64_t in = s.in_channels, out = s.out_channels, size = in * out;
  const bool pairs = kLanes == 16 && out % (2 * kBlock) == 0;
  const int64_t width = pairs ? 2 * kBlock : kBlock, steps = kPoints * kPoints * out / width;
  for (int64_t from = begin; from < end; from += room) {
    const int64_t tiles = end - from < room ? end - from : room;
    TransformInputs(s, input, from, tiles, room, v);
    TransformGrads(s, grad, from, tiles, room, w);
    Prefetch inputs(s, input, in, from + tiles, room, -1, steps);
    Prefetch grads(s, grad, out, from + tiles, room, 0, steps);
    for (int64_t point = 0; point < kPoints * kPoints; ++point) {
      const float* left = v + point * PointStep(in, room);
      const float* right = w + point * PointStep(out, room);
      for (int64_t o = 0; o < out; o += width) {
        inputs.Step();
        grads.Step();
        float* sum = u + point * PointStep(in, out) + o * kBlock;
        pairs ? SumTiles<2>(left, right + o * room, tiles, room, in, out, from == begin, sum)
              : SumTiles<1>(left, right + o * room, tiles, room, in, out, from == begin, sum);
      }
    }
  }
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t o = 0; o < out; o += kLanes) {
      const float* from = u + i / kBlock * out * kBlock + o / kBlock * kBlock * kBlock +
                          i % kBlock * kBlock + o % kBlock;
      F t[kPoints][3];
#pragma GCC unroll 6
      for (int x = 0; x < kPoints; ++x) {
        F points[kPoints];
#pragma GCC unroll 6
        for (int y = 0; y < kPoints; ++y)
          points[y] = Load(from + (y * kPoints + x) * PointStep(in, out));
        Weights(points, t[x]);
      }
#pragma GCC unroll 3
      for (int y = 0; y < 3; ++y) {
        const F points[kPoints] = {t[0][y], t[1][y], t[2][y], t[3][y], t[4][y], t[5][y]};
        F row[3];
        Weights(points, row);
#pragma GCC unroll 3
        for (int x = 0; x < 3; ++x) Store(sums + (y * 3 + x) * size + i * out + o, row[x]);
      }
    }
  }
}

// Adds `slices` times `size` floats up in float64, in their order, into the first ones.
inline void Conv3x3AddSlices(int64_t slices, int64_t size, float* sums) {
  for (int64_t i = 0; i < size; i += kLanes) {
    D low = Broadcast64(0.0), high = low;
    for (int64_t slice = 0; slice < slices; ++slice) {
      const F part = Load(sums + slice * size + i);
      low = low + WidenLow(part);
      high = high + WidenHigh(part);
    }
    Store(sums + i, Narrow(low, high));
  }
}
