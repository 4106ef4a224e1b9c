// The tiles of conv3x3, one after the other. Included by for_each_isa.h inside bdp_ext::<isa>; no
// include guard.

constexpr int kTile = 4;       // outputs of a tile along an axis
constexpr int kBlock = 16;     // channels that lie together, whatever the instruction set
constexpr int64_t kLine = 16;  // floats of a cache line

#define BDP_INLINE __attribute__((always_inline)) inline

// Where a tile's pixels lie; bit i of rows and columns: row or column i lies in the image.
struct Patch {
  const float* origin;  // of pixel (0, 0), in the image or not
  int64_t row, pixel;   // floats from row to row, from pixel to pixel
  unsigned rows, columns;
};

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

// Asks for tiles' pixels, a few at each step, while others are multiplied: the processor does not
// foresee them, and a cold tile takes as long to come as to compute.
struct Prefetch {
  Prefetch(const Conv3x3Shape& s, const float* image, int64_t channels, int64_t begin,
           int64_t tiles, int margin, int64_t steps)
      : walk(s, begin),
        image(image),
        channels(channels),
        rows(tiles * kTile),
        margin(margin),
        steps(steps) {}

  BDP_INLINE void Step() {
    for (++step; done * steps < rows * step; ++done) {
      const Patch patch = walk.PatchOf(image, channels, margin, kTile);
      const float* row = patch.origin + done % kTile * patch.row;
      for (int64_t i = 0; i < kTile * channels; i += kLine) __builtin_prefetch(row + i, 0, 2);
      if (done % kTile == kTile - 1) walk.Next();
    }
  }

  Walk walk;
  const float* image;
  int64_t channels, rows;  // rows: of pixels, kTile of a tile
  int margin;
  int64_t steps, step = 0, done = 0;
};
