#include "snapshotter/credentials/kubelet_plugins.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "common/io.h"
#include "oci/descriptor.h"
#include "oci/helper_program.h"
#include "snapshotter/credentials/image_pattern.h"

namespace imsy::snapshotter {
namespace {

constexpr std::uint64_t kKubeletConfigLimit = 1u << 20;
constexpr std::size_t kPluginAnswerLimit = 1u << 20;
constexpr std::size_t kAnswersMax = 1'024;

// It gets our rights, and tells us what to show to registries.
Status check_program(const std::filesystem::path& path) {
  struct stat st = {};
  if (::stat(path.c_str(), &st) != 0) return Error::from_errno(errno, path.string());
  const bool ours = st.st_uid == 0 || st.st_uid == ::geteuid();
  if (S_ISREG(st.st_mode) && ours && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0) return {};
  return Error(Errc::kDenied, path.string() +
                                  " is not run: it must be a file that belongs to root and that "
                                  "nobody else can write to");
}

}  // namespace

Result<std::shared_ptr<KubeletPlugins>> KubeletPlugins::open(const std::filesystem::path& config,
                                                             std::filesystem::path directory,
                                                             Now now) {
  IMSY_TRY_ASSIGN(const Bytes text, read_file(config, kKubeletConfigLimit));
  IMSY_TRY_ASSIGN(auto plugins, parse_kubelet_config(as_text(text), config.string()));
  return std::shared_ptr<KubeletPlugins>(
      new KubeletPlugins(std::move(plugins), std::move(directory), std::move(now)));
}

Result<std::vector<oci::Credential>> KubeletPlugins::find(const oci::CredentialQuery& query) const {
  std::vector<oci::Credential> all;
  std::optional<Error> failure;
  for (const KubeletPlugin& plugin : plugins_) {
    const auto fits = [&](const std::string& pattern) { return matches_image(pattern, query); };
    if (std::ranges::none_of(plugin.match_images, fits)) continue;
    const auto answer = ask(plugin, query);
    if (!answer) {
      failure = answer.error();
      continue;
    }
    // From the last to the first: what says more of the path comes before what says less.
    const auto& logins = (*answer)->logins;
    for (auto login = logins.rbegin(); login != logins.rend(); ++login) {
      if (!matches_image(login->first, query)) continue;
      oci::Credential one = login->second;
      one.owner = plugin.name + " " + login->first;
      if ((*answer)->cached_for == PluginAnswer::For::kImage) {
        one.owner += " " + query.host + "/" + query.repository;
      }
      all.push_back(std::move(one));
    }
  }
  if (all.empty() && failure) return *failure;
  return all;
}

Result<KubeletPlugins::Answer> KubeletPlugins::ask(const KubeletPlugin& plugin,
                                                   const oci::CredentialQuery& query) const {
  const std::string image = query.host + "/" + query.repository;
  // No name of a plugin, host or image has a space in it.
  const std::string for_image = plugin.name + " image " + image;
  const std::string for_registry = plugin.name + " registry " + query.host;
  const std::string for_all = plugin.name + " all";
  if (Answer kept = find_kept({for_image, for_registry, for_all})) return kept;
  const auto path = directory_ / plugin.name;
  IMSY_TRY(check_program(path));
  oci::HelperProgram program;
  program.program = path;
  program.arguments = plugin.arguments;
  program.environment = plugin.environment;
  program.answer_limit = kPluginAnswerLimit;
  program.input = oci::Json{
      {"kind", "CredentialProviderRequest"},
      {"apiVersion", plugin.api_version},
      {"image",
       image}}.dump();
  const auto run = oci::run_helper(program);
  if (!run) return run.error().with_context(path.string());
  if (run->status != 0) {
    return Error(Errc::kDenied,
                 path.string() + " failed with status " + std::to_string(run->status));
  }
  IMSY_TRY_ASSIGN(auto parsed, parse_plugin_answer(run->output, plugin));
  const auto answer = std::make_shared<const PluginAnswer>(std::move(parsed));
  switch (answer->cached_for) {
    case PluginAnswer::For::kImage: keep(for_image, answer); break;
    case PluginAnswer::For::kRegistry: keep(for_registry, answer); break;
    case PluginAnswer::For::kGlobal: keep(for_all, answer); break;
  }
  return answer;
}

KubeletPlugins::Answer KubeletPlugins::find_kept(const std::vector<std::string>& keys) const {
  const auto now = now_();
  const MutexLock lock(mu_);
  for (const std::string& key : keys) {
    const auto found = kept_.find(key);
    if (found != kept_.end() && now < found->second.until) return found->second.answer;
  }
  return nullptr;
}

void KubeletPlugins::keep(const std::string& key, Answer answer) const {
  const auto now = now_();
  if (answer->cache_duration.count() == 0) return;
  const auto until = now + answer->cache_duration;
  const MutexLock lock(mu_);
  std::erase_if(kept_, [now](const auto& entry) { return entry.second.until <= now; });
  if (kept_.size() >= kAnswersMax) kept_.clear();
  kept_[key] = {std::move(answer), until};
}

}  // namespace imsy::snapshotter
