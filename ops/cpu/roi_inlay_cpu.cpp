// RoIInlay on the CPU, forward (section 3.2 of the paper).
//
// The interpolation is separable. Work is split over parts of the map (band of rows, channels) and
// not over RoIs, so every element has one writer and the result does not depend on the number of
// threads. RoIs are added up in scratch memory that stays in the nearer caches.
#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "../mmbanet_ops.h"
#include "coverage.h"
#include "inlaid_roi.h"
#include "layout.h"
#include "map_memory.h"

namespace mmbanet {
namespace {

// Scratch memory of a thread.
template <typename acc_t>
struct Scratch {
  AlignedVector<acc_t> band;    // zeros between tasks
  AlignedVector<acc_t> points;  // one row of a crop
  // Two neighbouring rows of points, interpolated along the columns, and the second minus the
  // first.
  AlignedVector<acc_t> low, high, difference;
};

// The part of a RoI that lies in a band.
template <typename Layout>
struct RoiPart {
  RoiPart(const InlaidRoi<Layout>& roi, Band band, int crop_height)
      : roi(&roi), rows(band.intersect(roi.row_begin, roi.row_end)) {
    if (rows.begin >= rows.end) return;
    first_point_row = roi.row(rows.begin).low;
    point_rows = std::min(roi.row(rows.end - 1).low + 2, crop_height) - first_point_row;
  }

  const InlaidRoi<Layout>* roi;
  Band rows;                // of the map, none if begin >= end
  int first_point_row = 0;  // rows of sampling points between which they lie
  int point_rows = 0;
};

template <typename Layout>
struct Crops {
  using scalar_t = typename Layout::scalar_t;

  // The first row of sampling points that the part needs.
  const scalar_t* rows_of(const RoiPart<Layout>& part, int64_t block) const {
    const int64_t plane = static_cast<int64_t>(height) * width;
    return begin + layout.plane(part.roi->index, block, plane) +
           layout.pixel(static_cast<int64_t>(part.first_point_row) * width);
  }

  const Layout& layout;
  const scalar_t* begin;
  const scalar_t* end;
  int height, width;
};

// Adds a RoI's pixels to scratch.band, whose first row is band_begin. Meanwhile fetches the next
// RoI's rows of sampling points, a row at a time: they are scattered over the memory.
template <typename Target, typename Layout>
MMBANET_INLINE void add_crop(const Crops<Layout>& crops, const RoiPart<Layout>& part, int64_t block,
                             const typename Layout::scalar_t* next_rows, int next_row_count,
                             int band_begin, int64_t stride,
                             Scratch<typename Layout::acc_t>& scratch) {
  using acc_t = typename Layout::acc_t;
  const Layout& layout = crops.layout;
  const InlaidRoi<Layout>& roi = *part.roi;
  const auto* const rows = crops.rows_of(part, block);
  const bool finite = layout.all_finite(rows, static_cast<int64_t>(part.point_rows) * crops.width);
  const auto points = [&](int row) MMBANET_INLINE_LAMBDA {
    const int64_t i = row - part.first_point_row;
    if (i < next_row_count) {
      layout.prefetch(next_rows + layout.pixel(i * crops.width), crops.width);
    }
    return layout.load(rows + layout.pixel(i * crops.width), crops.end, crops.width, block,
                       scratch.points.data());
  };
  acc_t* low = scratch.low.data();
  acc_t* high = scratch.high.data();
  acc_t* const difference = scratch.difference.data();
  const int64_t size = roi.columns.chunks() * kLanes;
  int held = -1;  // row of sampling points that `low` is made from
  for (int run = part.rows.begin; run < part.rows.end;) {
    const int next_run = roi.run_end(run, part.rows.end);
    const int row = roi.row(run).low;
    if (row != held) {
      const acc_t* const from = points(row);
      for (int64_t q = 0; q < size; q += kLanes) {
        lanes(low + q) = roi.columns.template product<Target>(from, q / kLanes, finite);
      }
    }
    const bool is_last = row + 1 == crops.height;
    const acc_t* const from = is_last ? nullptr : points(row + 1);
    for (int64_t q = 0; q < size; q += kLanes) {
      const Lanes<acc_t> value = lanes(low + q);
      const Lanes<acc_t> next =
          is_last ? value : roi.columns.template product<Target>(from, q / kLanes, finite);
      lanes(high + q) = next;
      lanes(difference + q) = next - value;
    }
    // Whole rows, one after the other: runs are short and differ in length, which processors cannot
    // foresee.
    for (int p = run; p < next_run; ++p) {
      acc_t* const band =
          scratch.band.data() + (p - band_begin) * stride + roi.first_column * layout.element;
      const acc_t fraction = roi.row(p).fraction;
      for (int64_t q = 0; q < size; q += kLanes) {
        lanes(band + q) += lanes(low + q) + fraction * lanes(difference + q);
      }
    }
    std::swap(low, high);
    held = row + 1;
    run = next_run;
  }
}

// map: of one image; its elements are 0 already if `zeroed`.
template <typename Layout>
void inlay_image(const Crops<Layout>& crops, const std::vector<Roi>& rois, int height, int width,
                 bool zeroed, typename Layout::scalar_t* map) {
  using acc_t = typename Layout::acc_t;
  const Layout& layout = crops.layout;
  const auto inlaid = inlay_rois<Layout>(rois.data(), rois.data() + rois.size(), crops.height,
                                         crops.width, Direction::kToMap, layout);
  const Bands bands(layout, height, width);
  const auto coverage = cover<Layout>(bands, width, count_rois(rois));
  std::vector<std::vector<RoiPart<Layout>>> parts(bands.count());
  for (int64_t i = 0; i < bands.count(); ++i) {
    for (const auto& roi : inlaid) {
      const RoiPart<Layout> part(roi, bands[i], crops.height);
      if (part.point_rows > 0) parts[i].push_back(part);
    }
  }

  at::parallel_for(0, bands.tasks(), 1, [&](int64_t task_begin, int64_t task_end) {
    Scratch<acc_t> scratch;
    scratch.band.resize(bands.size());
    scratch.points.resize(static_cast<int64_t>(crops.width) * layout.element +
                          Layout::Matrix::kPadding);
    for (auto* row : {&scratch.low, &scratch.high, &scratch.difference}) {
      row->resize(bands.stride());
    }
    run_vectorized([&](auto target) MMBANET_INLINE_LAMBDA {
      for (int64_t task = task_begin; task < task_end; ++task) {
        const int64_t index = bands.index_of(task), block = bands.block_of(task);
        const Band band = bands[index];
        const auto& band_parts = parts[index];
        for (size_t i = 0; i < band_parts.size(); ++i) {
          const auto& next = band_parts[std::min(i + 1, band_parts.size() - 1)];
          add_crop<decltype(target)>(crops, band_parts[i], block, crops.rows_of(next, block),
                                     next.point_rows, band.begin, bands.stride(), scratch);
        }
        const auto factor = [](acc_t inverse) MMBANET_INLINE_LAMBDA { return inverse; };
        coverage[index].store(layout, band, scratch.band.data(), bands.stride(), block, zeroed,
                              factor,
                              map + layout.plane(0, block, static_cast<int64_t>(height) * width));
      }
    });
  });
}

Tensor roi_inlay_cpu(const Tensor& input, const Tensor& rois, int64_t batch_size, int64_t height,
                     int64_t width, double spatial_scale, bool aligned) {
  const auto images = list_rois(rois, batch_size, height, width, spatial_scale, aligned, &input);
  const int64_t channels = input.size(1), map_size = channels * height * width;
  const auto memory_format = input.suggest_memory_format();
  const MapMemory output =
      allocate_map({batch_size, channels, height, width}, input.options(), memory_format);
  if (output.tensor.numel() == 0) return output.tensor;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, input.scalar_type(), "roi_inlay", [&] {
    const auto* const begin = input.data_ptr<scalar_t>();
    auto* const maps = output.tensor.data_ptr<scalar_t>();
    for (int64_t n = 0; n < batch_size; ++n) {
      dispatch_layout<scalar_t>(memory_format, channels, [&](const auto& layout) {
        const Crops<std::decay_t<decltype(layout)>> crops{layout, begin, begin + input.numel(),
                                                          static_cast<int>(input.size(2)),
                                                          static_cast<int>(input.size(3))};
        inlay_image(crops, images[n], height, width, output.zeroed, maps + n * map_size);
      });
    }
  });
  return output.tensor;
}

}  // namespace

REGISTER_DEVICE_IMPL(roi_inlay_impl, CPU, roi_inlay_cpu);

}  // namespace mmbanet
