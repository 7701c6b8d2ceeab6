#include "snapshotter/credentials/yaml.h"

#include <yaml.h>

#include <optional>
#include <string>
#include <vector>

namespace imsy::snapshotter {
namespace {

constexpr std::size_t kYamlDepth = 32;
constexpr std::size_t kYamlNodes = 100'000;

class Event {
 public:
  Event() = default;
  ~Event() { yaml_event_delete(&event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  yaml_event_t* get() { return &event_; }
  const yaml_event_t* operator->() const { return &event_; }

 private:
  yaml_event_t event_ = {};
};

// Builds the document from events, without recursion.
class YamlReader {
 public:
  YamlReader(std::string_view text, std::string_view where) : where_(where) {
    ready_ = yaml_parser_initialize(&parser_) == 1;
    if (!ready_) return;
    yaml_parser_set_encoding(&parser_, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
  }
  ~YamlReader() {
    if (ready_) yaml_parser_delete(&parser_);
  }
  YamlReader(const YamlReader&) = delete;
  YamlReader& operator=(const YamlReader&) = delete;

  Result<oci::Json> read() {
    if (!ready_) return Error(Errc::kInternal, "no memory for a YAML parser");
    for (;;) {
      Event event;
      if (yaml_parser_parse(&parser_, event.get()) != 1) {
        return fail(parser_.problem_mark.line, "is no YAML");
      }
      if (event->type == YAML_STREAM_END_EVENT) break;
      IMSY_TRY(take(event));
    }
    if (!done_) return fail(0, "is empty");
    return std::move(root_);
  }

 private:
  struct Open {
    oci::Json* container;
    std::optional<std::string> key;  // of a mapping: whose value comes next
  };

  Error fail(std::size_t line, std::string_view what) const {
    return Error(Errc::kInvalid, std::string(where_) + " line " + std::to_string(line + 1) + ": " +
                                     std::string(what));
  }

  Status take(const Event& event) {
    const std::size_t line = event->start_mark.line;
    if (++nodes_ > kYamlNodes) return fail(line, "has too many nodes");
    switch (event->type) {
      case YAML_SCALAR_EVENT: {
        const auto& scalar = event->data.scalar;
        if (scalar.anchor != nullptr || scalar.tag != nullptr) return refused(line);
        const std::string text(reinterpret_cast<const char*>(scalar.value), scalar.length);
        const bool plain = scalar.style == YAML_PLAIN_SCALAR_STYLE;
        if (is_key()) return take_key(text, line);
        const bool null = plain && (text.empty() || text == "null" || text == "~");
        return place(null ? oci::Json(nullptr) : oci::Json(text), line).has_value()
                   ? Status()
                   : Status(fail(line, "has more than one value"));
      }
      case YAML_MAPPING_START_EVENT: {
        const auto& start = event->data.mapping_start;
        if (start.anchor != nullptr || start.tag != nullptr) return refused(line);
        return open(oci::Json::object(), line);
      }
      case YAML_SEQUENCE_START_EVENT: {
        const auto& start = event->data.sequence_start;
        if (start.anchor != nullptr || start.tag != nullptr) return refused(line);
        return open(oci::Json::array(), line);
      }
      case YAML_MAPPING_END_EVENT:
      case YAML_SEQUENCE_END_EVENT: open_.pop_back(); return {};
      case YAML_ALIAS_EVENT: return refused(line);
      case YAML_DOCUMENT_START_EVENT:
        return done_ ? Status(fail(line, "has more than one document")) : Status();
      default: return {};
    }
  }

  Error refused(std::size_t line) const {
    return fail(line, "has an anchor, an alias or a tag, which are not understood here");
  }
  bool is_key() const {
    return !open_.empty() && open_.back().container->is_object() && !open_.back().key;
  }
  Status take_key(const std::string& name, std::size_t line) {
    if (open_.back().container->contains(name)) return fail(line, "has the same key twice");
    open_.back().key = name;
    return {};
  }
  // Where the value is now; nodes of a map do not move, and a list grows only when its last element
  // is complete.
  Result<oci::Json*> place(oci::Json value, std::size_t line) {
    if (open_.empty()) {
      if (done_) return fail(line, "has more than one value");
      done_ = true;
      root_ = std::move(value);
      return &root_;
    }
    Open& parent = open_.back();
    if (parent.container->is_array()) {
      parent.container->push_back(std::move(value));
      return &parent.container->back();
    }
    oci::Json& slot = (*parent.container)[*parent.key];
    parent.key.reset();
    slot = std::move(value);
    return &slot;
  }
  Status open(oci::Json container, std::size_t line) {
    if (is_key()) return fail(line, "has a key that is not a word");
    if (open_.size() >= kYamlDepth) return fail(line, "is nested too deep");
    IMSY_TRY_ASSIGN(oci::Json* const placed, place(std::move(container), line));
    open_.push_back({placed, std::nullopt});
    return {};
  }

  const std::string_view where_;
  yaml_parser_t parser_ = {};
  bool ready_ = false;
  bool done_ = false;  // there is a root
  std::size_t nodes_ = 0;
  oci::Json root_;
  std::vector<Open> open_;
};

}  // namespace

Result<oci::Json> parse_yaml(std::string_view text, std::string_view where) {
  return YamlReader(text, where).read();
}

}  // namespace imsy::snapshotter
