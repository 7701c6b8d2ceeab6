#include "cli/image/squashed.h"

#include <utility>

#include "converter/layer_tree.h"

namespace imsy::cli::image {

Content Squashed::content() const {
  Content content{plan.tree, {}};
  content.ids.reserve(plan.contents.size());
  for (const std::uint32_t number : plan.contents) {
    content.ids.push_back(cdc::object_id(spool.size(number), spool.digests(number)));
  }
  return content;
}

Result<Squashed> squash(oci::ImageSource& source, const converter::SourceImage& image,
                        const converter::InputOptions& input, const cdc::ChunkerParameters& chunker,
                        const std::filesystem::path& temporary) {
  IMSY_TRY_ASSIGN(auto spool, converter::ContentSpool::create(temporary, chunker));
  converter::LayerTree tree;
  converter::Progress counted_by_the_place(false);
  converter::LayerReader layers(source, input, tree, spool, counted_by_the_place);
  for (std::size_t i = 0; i < image.manifest.layers.size(); ++i) {
    IMSY_TRY(layers.read(image.manifest.layers[i], image.config.diff_ids[i]));
  }
  spool.seal();
  IMSY_TRY_ASSIGN(auto plan, converter::plan_image(std::move(tree), spool));
  return Squashed{std::move(plan), std::move(spool)};
}

}  // namespace imsy::cli::image
