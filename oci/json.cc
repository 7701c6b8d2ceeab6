#include "oci/json.h"

#include <limits>
#include <utility>

#include "oci/ascii.h"

template class nlohmann::basic_json<>;

namespace imsy::oci {
namespace {

constexpr std::size_t kDepthLimit = 64;

// Builds the document while it is parsed, so that a limit is enforced before anything beyond it is
// kept. The parser calls back in document order; a callback that returns false ends it.
class Builder : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t, const string_t&) override {
    return fail("only integers of at most 64 bits are allowed");
  }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return fail("binary values are not allowed"); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (open_.back()->contains(name)) return fail("the same key stands twice in one object");
    slot_ = &(*open_.back())[name];
    return true;
  }

  // The parser's own text would quote the input, which may hold a credential.
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return fail("no valid JSON at byte " + std::to_string(position));
  }

  const std::string& problem() const { return problem_; }
  Json take() { return std::move(root_); }

 private:
  bool fail(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  // Elements of an open container stay where they are: a map's nodes do not move, and an array
  // grows only after its last element was closed.
  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    if (open_.size() == kDepthLimit) {
      return fail("more than " + std::to_string(kDepthLimit) + " levels deep");
    }
    open_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;  // containers around the next value, outermost first
  Json* slot_ = nullptr;     // where the value of the last key goes
  std::string problem_;
};

Error invalid(std::string_view where, std::string_view key, std::string_view what) {
  return Error(Errc::kInvalid, field_path(where, key) + ": " + std::string(what));
}

}  // namespace

Result<Json> parse_json(std::string_view text, std::string_view where) {
  if (text.size() > kDocumentLimit) {
    return Error(Errc::kInvalid, std::string(where) + ": larger than the limit of " +
                                     std::to_string(kDocumentLimit) + " bytes");
  }
  // The library would skip a byte order mark; Go's decoder refuses it.
  if (text.starts_with("\xEF\xBB\xBF")) {
    return Error(Errc::kInvalid, std::string(where) + ": no valid JSON at byte 1");
  }
  // The library takes a zero byte for the end of the text and would ignore what follows.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return Error(Errc::kInvalid,
                 std::string(where) + ": no valid JSON at byte " + std::to_string(zero + 1));
  }
  Builder builder;
  if (!Json::sax_parse(text, &builder)) {
    return Error(Errc::kInvalid, std::string(where) + ": " + builder.problem());
  }
  return builder.take();
}

Status check_object(const Json& json, std::initializer_list<std::string_view> known,
                    std::string_view where) {
  if (!json.is_object()) {
    return Error(Errc::kInvalid, std::string(where) + ": must be a JSON object");
  }
  for (const auto& item : json.items()) {
    const std::string& key = item.key();
    for (const std::string_view name : known) {
      if (key != name && equal_but_for_case(key, name)) {
        return invalid(where, name, "also present in other upper and lower case");
      }
    }
  }
  return {};
}

const Json* find_field(const Json& object, std::string_view key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<std::string> string_field(const Json& object, std::string_view key, std::string_view where) {
  const Json* field = find_field(object, key);
  if (field == nullptr) return std::string();
  if (!field->is_string()) return invalid(where, key, "must be a string");
  return field->get_ref<const std::string&>();
}

Result<std::string> required_string(const Json& object, std::string_view key,
                                    std::string_view where) {
  IMSY_TRY_ASSIGN(std::string value, string_field(object, key, where));
  if (value.empty()) return invalid(where, key, "is missing");
  return value;
}

Result<std::uint64_t> required_number(const Json& object, std::string_view key,
                                      std::string_view where) {
  const Json* field = find_field(object, key);
  if (field == nullptr) return invalid(where, key, "is missing");
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!field->is_number_unsigned() || field->get<std::uint64_t>() > kMax) {
    return invalid(where, key, "must be an integer from 0 to 2^63-1");
  }
  return field->get<std::uint64_t>();
}

Result<Digest> required_digest(const Json& object, std::string_view key, std::string_view where) {
  IMSY_TRY_ASSIGN(const std::string text, required_string(object, key, where));
  auto digest = Digest::parse(text);
  if (!digest) return digest.error().with_context(field_path(where, key));
  return digest;
}

Result<std::map<std::string, std::string>> string_map_field(const Json& object,
                                                            std::string_view key,
                                                            std::string_view where) {
  std::map<std::string, std::string> values;
  const Json* field = find_field(object, key);
  if (field == nullptr) return values;
  if (!field->is_object()) return invalid(where, key, "must be a JSON object");
  for (const auto& item : field->items()) {
    if (!item.value().is_string()) return invalid(where, key, "every value must be a string");
    values.emplace(item.key(), item.value().get_ref<const std::string&>());
  }
  return values;
}

Result<std::vector<std::string>> string_list_field(const Json& object, std::string_view key,
                                                   std::string_view where) {
  std::vector<std::string> values;
  const Json* field = find_field(object, key);
  if (field == nullptr) return values;
  if (!field->is_array()) return invalid(where, key, "must be an array");
  for (const Json& item : *field) {
    if (!item.is_string()) return invalid(where, key, "every element must be a string");
    values.push_back(item.get_ref<const std::string&>());
  }
  return values;
}

std::string field_path(std::string_view where, std::string_view key) {
  return std::string(where) + "." + std::string(key);
}

std::string element_path(std::string_view where, std::string_view key, std::size_t index) {
  return field_path(where, key) + "[" + std::to_string(index) + "]";
}

}  // namespace imsy::oci
