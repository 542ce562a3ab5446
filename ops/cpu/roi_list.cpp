#include "roi_list.h"

#include <algorithm>
#include <cstring>

namespace mmbanet {

std::vector<std::vector<Roi>> list_rois(const at::Tensor& rois, int64_t batch_size, int height,
                                        int width, double spatial_scale, bool aligned,
                                        const at::Tensor* crops) {
  const double* const boxes = rois.data_ptr<double>();
  std::vector<std::vector<Roi>> images(batch_size);
  for (int64_t k = 0; k < rois.size(0); ++k) {
    const double* const box = boxes + k * 5;
    const Axis x = make_axis(box[1], box[3], spatial_scale, aligned, width);
    const Axis y = make_axis(box[2], box[4], spatial_scale, aligned, height);
    if (x.extent > 0 && y.extent > 0) images[static_cast<int64_t>(box[0])].push_back({k, y, x});
  }
  if (crops == nullptr || crops->numel() == 0) return images;

  // Bytes in the order of an NCHW tensor, whatever the layout.
  const auto* const bytes = static_cast<const char*>(crops->data_ptr());
  const size_t crop_bytes = crops->nbytes() / crops->size(0);
  const bool planar = crops->is_contiguous();
  const size_t run_bytes = planar ? crop_bytes : crops->element_size();
  const int64_t channels = planar ? 1 : crops->size(1);
  const int64_t pixels = planar ? 1 : crops->size(2) * crops->size(3);
  const auto compare_crops = [&](const char* a, const char* b) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t i = 0; i < pixels; ++i) {
        const size_t offset = (i * channels + c) * run_bytes;
        const int order = std::memcmp(a + offset, b + offset, run_bytes);
        if (order != 0) return order;
      }
    }
    return 0;
  };
  const auto precedes = [&](const Roi& a, const Roi& b) {
    const double* const box_a = boxes + a.index * 5 + 1;
    const double* const box_b = boxes + b.index * 5 + 1;
    for (int i = 0; i < 4; ++i) {
      if (box_a[i] != box_b[i]) return box_a[i] < box_b[i];
    }
    return compare_crops(bytes + a.index * crop_bytes, bytes + b.index * crop_bytes) < 0;
  };
  for (auto& image : images) std::sort(image.begin(), image.end(), precedes);
  return images;
}

}  // namespace mmbanet
