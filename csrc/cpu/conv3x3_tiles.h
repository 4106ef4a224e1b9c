// The 3x3 convolution, tiles after tiles: what a thread does. Included by for_each_isa.h inside
// bdp_ext::<isa>; no include guard.

#include "cpu/conv3x3_kernel.h"

// Tile after tile, row after row, image after image. Counted on: divisions would take as long as a
// tile's transform.
struct Walk {
  Walk(const Conv3x3Shape& s, int64_t tile)
      : height(s.height), width(s.width), x(tile % Across(s) * kTile) {
    const int64_t row = tile / Across(s), down = (s.height + kTile - 1) / kTile;
    y = row % down * kTile;
    batch = row / down;
  }
  static int64_t Across(const Conv3x3Shape& s) { return (s.width + kTile - 1) / kTile; }

  void Next() {
    if ((x += kTile) < width) return;
    x = 0;
    if ((y += kTile) < height) return;
    y = 0;
    ++batch;
  }

  // The tile's pixels, from `margin` before its outputs, `size` in each direction.
  Patch PatchOf(const float* image, int64_t channels, int margin, int size) const {
    const int64_t pixel = (batch * height + y - margin) * width + x - margin;
    return {image + pixel * channels, width * channels, channels, Bits(y - margin, height, size),
            Bits(x - margin, width, size)};
  }

  // Bit i: begin + i lies in [0, end).
  static unsigned Bits(int64_t begin, int64_t end, int size) {
    const unsigned above = begin < 0 ? ~0u << -begin : ~0u;
    const unsigned below = end - begin < size ? (1u << (end - begin)) - 1 : (1u << size) - 1;
    return above & below;
  }

  int64_t height, width;
  int64_t batch, y, x;  // of the tile's first output
};

inline bool IsInside(const Patch& patch, int size) {
  return (patch.rows & patch.columns) == (1u << size) - 1;
}

// Floats from point to point of what lies as [points][channels / 16][room for tiles][16]. One block
// more than there is: steps that are a power of two would meet in few sets of the cache.
inline int64_t PointStep(int64_t channels, int64_t room) { return channels * room + kBlock; }

// The points of some tiles: the first or the second half of them (kWhich 0, 1), or all.
constexpr int kAll = 2;

template <int kWhich>
inline void TransformInputs(const Conv3x3Shape& s, const float* image, int64_t begin, int64_t tiles,
                            int64_t room, float* v) {
  const int64_t step = PointStep(s.in_channels, room);
  Walk walk(s, begin);
  for (int64_t i = 0; i < tiles; ++i, walk.Next()) {
    const Patch patch = walk.PatchOf(image, s.in_channels, 1, kPoints);
    const bool inside = IsInside(patch, kPoints);
    for (int64_t c = 0; c < s.in_channels; c += kLanes) {
      float* to = v + c / kBlock * kBlock * room + i * kBlock + c % kBlock;
      if (kWhich != 1) {
        inside ? TransformInput<0, true>(patch, c, to, step)
               : TransformInput<0, false>(patch, c, to, step);
      }
      if (kWhich == kAll) to += kHalf * kPoints * step;
      if (kWhich != 0) {
        inside ? TransformInput<1, true>(patch, c, to, step)
               : TransformInput<1, false>(patch, c, to, step);
      }
    }
  }
}

template <int kWhich>
inline void TransformGrads(const Conv3x3Shape& s, const float* image, int64_t begin, int64_t tiles,
                           int64_t room, float* v) {
  const int64_t step = PointStep(s.out_channels, room);
  Walk walk(s, begin);
  for (int64_t i = 0; i < tiles; ++i, walk.Next()) {
    const Patch patch = walk.PatchOf(image, s.out_channels, 0, kTile);
    const bool inside = IsInside(patch, kTile);
    for (int64_t c = 0; c < s.out_channels; c += kLanes) {
      float* to = v + c / kBlock * kBlock * room + i * kBlock + c % kBlock;
      inside ? TransformGrad<kWhich, true>(patch, c, to, step)
             : TransformGrad<kWhich, false>(patch, c, to, step);
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
      if (inside) {
        TransformOutput<0, true>(from, step, patch, origin + c);
        TransformOutput<1, true>(from, step, patch, origin + c);
      } else {
        TransformOutput<0, false>(from, step, patch, origin + c);
        TransformOutput<1, false>(from, step, patch, origin + c);
      }
    }
  }
}

constexpr int kSums = kLanes == 16 ? 28 : 12;  // vectors of sums that the registers hold

// The products of some tiles at one point, with kBlocks blocks of output channels. The last tiles are
// computed together with some that were before, or with what lies in the room behind them.
template <int kBlocks>
inline void MultiplyTiles(const float* v, int64_t tiles, int64_t room, const float* u, int64_t depth,
                          float* m) {
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
        for (int x = 0; x < kPoints; ++x) Store(to + (y * kPoints + x) * in * out, points[x]);
      }
    }
  }
}

inline void Conv3x3Tiles(const Conv3x3Shape& s, const float* input, const float* u, int64_t begin,
                         int64_t end, int64_t room, float* v, float* m, float* output) {
  const int64_t in = s.in_channels, out = s.out_channels;
  const int64_t v_step = PointStep(in, room), m_step = PointStep(out, room);
  const bool pairs = kLanes == 16 && out % (2 * kBlock) == 0;
  for (int64_t from = begin; from < end; from += room) {
    const int64_t tiles = end - from < room ? end - from : room;
    TransformInputs<kAll>(s, input, from, tiles, room, v);
    for (int64_t point = 0; point < kPoints * kPoints; ++point) {
      const float* left = v + point * v_step;
      const float* right = u + point * in * out;
      float* product = m + point * m_step;
      for (int64_t o = 0; o < out; o += (pairs ? 2 : 1) * kBlock) {
        pairs ? MultiplyTiles<2>(left, tiles, room, right + o * in, in, product + o * room)
              : MultiplyTiles<1>(left, tiles, room, right + o * in, in, product + o * room);
      }
    }
    TransformOutputs(s, m, from, tiles, room, output);
  }
}

// The sums over some tiles at one point: u is [in / 16][out / 16][16][16].
template <int kBlocks>
inline void SumTiles(const float* v, const float* w, int64_t tiles, int64_t room, int64_t in,
                     int64_t out, bool first, float* u) {
  constexpr int kRows = (kLanes == 16 ? 16 : 8) / kVectors / kBlocks;
  for (int64_t i = 0; i < in; i += kRows) {
    for (int64_t o = 0; o < out; o += kBlocks * kBlock) {
      SumOverTiles<kRows, kBlocks>(
          v + i / kBlock * room * kBlock + i % kBlock, w + o * room, room * kBlock, tiles, first,
          u + i / kBlock * out * kBlock + o * kBlock + i % kBlock * kBlock);
    }
  }
}

// Half of the sums over tiles [begin, end).
template <int kWhich>
inline void SumHalf(const Conv3x3Shape& s, const float* grad, const float* input, int64_t begin,
                    int64_t end, int64_t room, float* v, float* w, float* u) {
  const int64_t in = s.in_channels, out = s.out_channels;
  const bool pairs = kLanes == 16 && out % (2 * kBlock) == 0;
  for (int64_t from = begin; from < end; from += room) {
    const int64_t tiles = end - from < room ? end - from : room;
    TransformInputs<kWhich>(s, input, from, tiles, room, v);
    TransformGrads<kWhich>(s, grad, from, tiles, room, w);
    for (int64_t point = 0; point < kHalf * kPoints; ++point) {
      const float* left = v + point * PointStep(in, room);
      const float* right = w + point * PointStep(out, room);
      float* sums = u + point * in * out;
      pairs ? SumTiles<2>(left, right, tiles, room, in, out, from == begin, sums)
            : SumTiles<1>(left, right, tiles, room, in, out, from == begin, sums);
    }
  }
}

// The weight gradient's part of tiles [begin, end), which must not be empty: sums is [9][in][out].
inline void Conv3x3WeightSums(const Conv3x3Shape& s, const float* grad, const float* input,
                              int64_t begin, int64_t end, int64_t room, float* v, float* w,
                              float* u, float* sums) {
  const int64_t in = s.in_channels, out = s.out_channels, size = in * out;
  SumHalf<0>(s, grad, input, begin, end, room, v, w, u);
  SumHalf<1>(s, grad, input, begin, end, room, v, w, u + kHalf * kPoints * size);
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t o = 0; o < out; o += kLanes) {
      const float* from = u + i / kBlock * out * kBlock + o / kBlock * kBlock * kBlock +
                          i % kBlock * kBlock + o % kBlock;
      F t[kPoints][3];
#pragma GCC unroll 6
      for (int x = 0; x < kPoints; ++x) {
        F points[kPoints];
#pragma GCC unroll 6
        for (int y = 0; y < kPoints; ++y) points[y] = Load(from + (y * kPoints + x) * size);
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
