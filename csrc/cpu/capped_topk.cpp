// capped_topk on the CPU, in O(N + C): the k lowest keys such that no class gives more than its
// cap.
//
//   1. Samples in class order: as they lie where labels ascend already, else by a counting sort of
//   the scores.
//   2. In each class whose cap binds, the limit that lets just `cap` samples through.
//   3. Over all that the classes let through, the limit of the k lowest: a sample says between
//   which keys it must lie
//      but for bad luck, one pass counts what is below and collects what is between, a few percent.
//   4. Take what is below both limits. What equals a limit is settled in index order.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "ops.h"

namespace bdp_ext {

// Keys up to `bound` pass, and of those that equal bound + 1 the first `ties`.
struct Limit {
  int32_t bound;
  int64_t ties;
};

// Where a search ended, and how far apart the keys lay there: the span that would hold a whole
// class.
struct Guess {
  int64_t pivot = 0;
  double spread = 0;
};

template <typename Label>
inline uint64_t ClassOf(Label label, int64_t classes) {
  const uint64_t c = static_cast<uint64_t>(static_cast<int64_t>(label));
  return c < static_cast<uint64_t>(classes) ? c : static_cast<uint64_t>(classes);
}

}  // namespace bdp_ext

#define BDP_KERNELS "cpu/capped_topk_kernel.h"
#include "cpu/for_each_isa.h"
#include "cpu/memory.h"
#include "cpu/parallel.h"

namespace bdp_ext {
namespace {

constexpr int64_t kGrain = 65536;  // samples a thread is worth
constexpr int64_t kSample =
    16384;  // scores drawn to find where the k-th lowest lies: to 0.4 % of them
constexpr int64_t kChunk = 4096;  // samples of one call, where a call writes what it finds
constexpr int64_t kAhead = 1024;  // scores to load ahead
constexpr Limit kAll = {INT32_MAX, 0};
constexpr Limit kNone = {INT32_MIN, 0};

// The samples of one class, at [begin, end) in class order.
struct Run {
  int64_t begin, end, label;
  int64_t Size() const { return end - begin; }
};

template <typename Label>
class Selection {
 public:
  Selection(const float* score, const Label* label, int64_t samples, const int64_t* cap,
            int64_t classes, int64_t k, bool largest, bool* mask)
      : score_(score),
        label_(label),
        samples_(samples),
        cap_(cap),
        classes_(classes),
        k_(k),
        flip_(largest ? -1 : 0),
        mask_(mask),
        parts_(Parts(samples, kGrain)) {}

  int64_t Run() {
    if (!FindRuns()) SortByClass();
    int64_t allowed = 0;
    for (const auto& run : runs_) allowed += std::min(run.Size(), CapOf(run.label));
    if (allowed == 0 || k_ == 0) {
      std::fill(mask_, mask_ + samples_, false);
      return 0;
    }
    PrepareToWrite(mask_, samples_);
    LimitClasses();
    if (allowed > k_) LimitAll(allowed);
    sorted_ == nullptr ? MarkRuns() : MarkUnsorted();
    SettleTies();
    return std::min(allowed, k_);
  }

 private:
  int64_t CapOf(int64_t label) const { return std::max<int64_t>(cap_[label], 0); }
  const float* InClassOrder() const { return sorted_ == nullptr ? score_ : sorted_.get(); }

  // function(part, first run, end of runs): about as many samples in each part.
  template <typename Function>
  void ForRuns(const Function& function) const {
    const auto first = [&](int64_t part) {
      const int64_t begin = samples_ * part / parts_;
      return std::partition_point(runs_.begin(), runs_.end(),
                                  [&](const auto& run) { return run.begin < begin; }) -
             runs_.begin();
    };
    ForEachPart(parts_, [&](int64_t part) {
      function(part, first(part),
               part + 1 == parts_ ? static_cast<int64_t>(runs_.size()) : first(part + 1));
    });
  }

  // The runs of equal labels; false where they do not ascend.
  bool FindRuns() {
    const auto next_change = BDP_PICK(NextChange<Label>);
    for (int64_t begin = 0; begin < samples_;) {
      const Label label = label_[begin];
      if (begin > 0 && label < label_[begin - 1]) return false;
      const int64_t end = next_change(label_, begin, samples_);
      if (label >= 0 && label < classes_) runs_.push_back({begin, end, label});
      begin = end;
    }
    return true;
  }

  // Counting sort of the scores, stable; what has no class comes last.
  void SortByClass() {
    const int64_t bins = classes_ + 1;
    std::vector<int64_t> place(parts_ * bins, 0);
    ForEachPart(parts_, [&](int64_t part) {
      int64_t* count = place.data() + part * bins;
      const int64_t end = samples_ * (part + 1) / parts_;
      for (int64_t i = samples_ * part / parts_; i < end; ++i)
        ++count[ClassOf(label_[i], classes_)];
    });
    runs_.clear();
    int64_t begin = 0;
    for (int64_t c = 0; c < bins; ++c) {
      int64_t end = begin;
      for (int64_t part = 0; part < parts_; ++part) {
        const int64_t count = place[part * bins + c];
        place[part * bins + c] = end;
        end += count;
      }
      if (c < classes_ && end > begin) runs_.push_back({begin, end, c});
      begin = end;
    }
    sorted_.reset(new float[samples_]);
    PrepareToWrite(sorted_.get(), samples_ * sizeof(float));
    ForEachPart(parts_, [&](int64_t part) {
      int64_t* to = place.data() + part * bins;
      const int64_t end = samples_ * (part + 1) / parts_;
      for (int64_t i = samples_ * part / parts_; i < end; ++i) {
        sorted_[to[ClassOf(label_[i], classes_)]++] = score_[i];
      }
    });
  }

  // Step 2.
  void LimitClasses() {
    limits_.assign(classes_ + 1, kNone);
    const auto keys_of = BDP_PICK(KeysOf);
    const auto select = BDP_PICK(SelectLimit);
    const float* score = InClassOrder();
    ForRuns([&](int64_t, int64_t first, int64_t last) {
      std::vector<int32_t> keys;
      Guess guess;
      for (int64_t r = first; r < last; ++r) {
        const auto& run = runs_[r];
        const int64_t cap = CapOf(run.label);
        if (cap == 0) continue;
        limits_[run.label] = kAll;
        if (cap >= run.Size()) continue;
        if (static_cast<int64_t>(keys.size()) < run.Size()) keys.resize(run.Size());
        int32_t lowest, highest;
        keys_of(score + run.begin, run.Size(), flip_, keys.data(), &lowest, &highest);
        const int64_t ahead =
            std::min(run.end + kAhead, samples_);  // loaded while the search computes
        for (int64_t i = run.end; i < ahead; i += 16) __builtin_prefetch(score + i);
        limits_[run.label] = select(keys.data(), run.Size(), lowest, highest, cap, &guess);
      }
    });
  }

  // Keys that the k-th lowest of the `allowed` lies between, (low, high], unless the sample is five
  // deviations off.
  void Bracket(int64_t allowed, int32_t* low, int32_t* high) const {
    *low = INT32_MIN;
    *high = INT32_MAX;
    if (samples_ <= 4 * kSample) return;
    const float* score = InClassOrder();
    std::vector<int32_t> keys;
    const int64_t step = samples_ / kSample;
    int64_t at = step / 2;
    for (const auto& run : runs_) {
      const int32_t bound = limits_[run.label].bound;
      while (at < run.begin) at += step;
      for (; at < run.end; at += step) {
        const int32_t key = plain::KeyOf(score[at], flip_);
        if (key <= bound) keys.push_back(key);
      }
    }
    const double drawn = static_cast<double>(keys.size());
    const double share = static_cast<double>(k_) / static_cast<double>(allowed);
    const double deviation = 5 * std::sqrt(drawn * share * (1 - share)) + 5;
    const auto quantile = [&](double rank, int32_t* key) {
      if (rank < 0 || rank >= drawn) return;
      const auto nth = keys.begin() + static_cast<int64_t>(rank);
      std::nth_element(keys.begin(), nth, keys.end());
      *key = *nth;
    };
    quantile(drawn * share - deviation, low);
    quantile(drawn * share + deviation, high);
  }

  // Step 3: more pass the classes than k, so there is a k-th.
  void LimitAll(int64_t allowed) {
    const auto filter = BDP_PICK(FilterScores);
    const float* score = InClassOrder();
    int32_t low, high;
    Bracket(allowed, &low, &high);
    for (;;) {
      std::vector<std::vector<int32_t>> found(parts_);
      std::vector<int64_t> below(parts_, 0);
      ForRuns([&](int64_t part, int64_t first, int64_t last) {
        std::vector<int32_t>& keys = found[part];
        int64_t count = 0;
        for (int64_t r = first; r < last; ++r) {
          const auto& run = runs_[r];
          const Limit& limit = limits_[run.label];
          if (limit.bound == INT32_MIN) continue;
          for (int64_t begin = run.begin; begin < run.end; begin += kChunk) {
            const int64_t size = std::min(kChunk, run.end - begin);
            const int64_t room = count + size + limit.ties;
            if (static_cast<int64_t>(keys.size()) < room) keys.resize(room + room / 2);
            count += filter(score + begin, size, flip_, limit.bound, low, high, keys.data() + count,
                            &below[part]);
          }
          const int32_t tie = limit.bound + (limit.ties > 0);
          if (limit.ties > 0 && tie <= low) below[part] += limit.ties;
          if (limit.ties > 0 && tie > low && tie <= high) {
            std::fill_n(keys.begin() + count, limit.ties, tie);
            count += limit.ties;
          }
        }
        keys.resize(count);
      });
      int64_t rank = k_;
      for (const int64_t count : below) rank -= count;
      std::vector<int32_t>& keys = found[0];
      for (int64_t part = 1; part < parts_; ++part) {
        keys.insert(keys.end(), found[part].begin(), found[part].end());
      }
      const int64_t between = static_cast<int64_t>(keys.size());
      if (rank <= 0) {  // it is below the bracket
        high = low;
        low = INT32_MIN;
      } else if (rank > between) {
        low = high;
        high = INT32_MAX;
      } else if (rank == between) {
        all_ = {high, 0};
        return;
      } else {
        const auto ends = std::minmax_element(keys.begin(), keys.end());
        const int32_t lowest = *ends.first, highest = *ends.second;
        Guess guess;
        all_ = BDP_PICK(SelectLimit)(keys.data(), between, lowest, highest, rank, &guess);
        return;
      }
    }
  }

  // What a class takes without question, and the key of which some may be taken (INT32_MIN: none).
  int32_t BoundOf(const Limit& limit) const { return std::min(limit.bound, all_.bound); }
  int32_t TieOf(const Limit& limit) const {
    const int32_t bound = BoundOf(limit);
    const bool none = bound == INT32_MAX || (bound == limit.bound && limit.ties == 0) ||
                      (bound == all_.bound && all_.ties == 0);
    return none ? INT32_MIN : bound + 1;
  }

  void MarkRuns() {
    ties_.resize(parts_);
    const auto mark = BDP_PICK(Mark);
    ForRuns([&](int64_t part, int64_t first, int64_t last) {
      int64_t done = first > 0 ? runs_[first - 1].end : 0;
      for (int64_t r = first; r < last; ++r) {
        const auto& run = runs_[r];
        std::fill(mask_ + done, mask_ + run.begin, false);
        done = run.end;
        const int32_t tie = TieOf(limits_[run.label]);
        if (!mark(score_ + run.begin, run.Size(), flip_, BoundOf(limits_[run.label]), tie,
                  mask_ + run.begin)) {
          continue;
        }
        for (int64_t i = run.begin; i < run.end; ++i) {
          if (plain::KeyOf(score_[i], flip_) == tie) ties_[part].push_back(i);
        }
      }
      if (part + 1 == parts_) std::fill(mask_ + done, mask_ + samples_, false);
    });
  }

  void MarkUnsorted() {
    ties_.resize(parts_);
    std::vector<int32_t> bound(classes_ + 1), tie(classes_ + 1);
    for (int64_t c = 0; c <= classes_; ++c) {
      bound[c] = BoundOf(limits_[c]);
      tie[c] = TieOf(limits_[c]);
    }
    const auto mark = BDP_PICK(MarkByClass<Label>);
    ForEachPart(parts_, [&](int64_t part) {
      std::vector<int32_t> ties(kChunk);
      const int64_t end = samples_ * (part + 1) / parts_;
      for (int64_t begin = samples_ * part / parts_; begin < end; begin += kChunk) {
        const int64_t count =
            mark(score_ + begin, label_ + begin, std::min(kChunk, end - begin), classes_, flip_,
                 bound.data(), tie.data(), mask_ + begin, ties.data());
        for (int64_t i = 0; i < count; ++i) ties_[part].push_back(begin + ties[i]);
      }
    });
  }

  // A tie is taken while its class and the whole still have room for it: in index order, so as
  // greedy would.
  void SettleTies() {
    for (const auto& part : ties_) {
      for (const int64_t i : part) {
        Limit& limit = limits_[label_[i]];
        const int32_t key = plain::KeyOf(score_[i], flip_);
        if (key > limit.bound && limit.ties-- <= 0) continue;
        if (key > all_.bound && all_.ties-- <= 0) continue;
        mask_[i] = true;
      }
    }
  }

  const float* score_;
  const Label* label_;
  int64_t samples_;
  const int64_t* cap_;
  int64_t classes_;
  int64_t k_;
  int32_t flip_;
  bool* mask_;
  int64_t parts_;

  std::vector<struct Run> runs_;     // ascending
  std::unique_ptr<float[]> sorted_;  // scores in class order, where they do not lie so
  std::vector<Limit> limits_;        // of each class
  Limit all_ = kAll;
  std::vector<std::vector<int64_t>> ties_;  // of each part, positions in index order
};

}  // namespace

void CappedTopk(const float* score, const void* label, LabelType label_type, int64_t samples,
                const int64_t* cap, int64_t classes, int64_t k, bool largest, bool* mask,
                int64_t* taken) {
  const auto run = [&](const auto* labels) {
    *taken = Selection(score, labels, samples, cap, classes, k, largest, mask).Run();
  };
  switch (label_type) {
    case LabelType::kInt64:
      return run(static_cast<const int64_t*>(label));
    case LabelType::kInt32:
      return run(static_cast<const int32_t*>(label));
    case LabelType::kInt16:
      return run(static_cast<const int16_t*>(label));
  }
}

}  // namespace bdp_ext
