// Typed access to the fields of a JSON document that somebody else wrote.
//
// Promises
//   * Every error is kInvalid and names the field: "<where>.<key>: ...".
//   * An optional field that is null counts as absent, as in Go's decoder.
//   * No message quotes a value: the same functions read files with credentials.
// Threads: free functions on plain values.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "oci/descriptor.h"

namespace imsy::oci {

// The object must be one, and none of its keys may differ from a known one in case only: Go's
// decoder, which containerd and Docker use, would take such a key for the known one, so the two
// readers would see different documents.
Status check_object(const Json& json, std::initializer_list<std::string_view> known,
                    std::string_view where);

// The field, or nullptr when it is absent or null. `object` must be a JSON object.
const Json* find_field(const Json& object, std::string_view key);

// "" when absent.
Result<std::string> string_field(const Json& object, std::string_view key, std::string_view where);
// Must be there and not empty.
Result<std::string> required_string(const Json& object, std::string_view key,
                                    std::string_view where);
// A non-negative integer that fits 63 bits; must be there.
Result<std::uint64_t> required_number(const Json& object, std::string_view key,
                                      std::string_view where);
Result<Digest> required_digest(const Json& object, std::string_view key, std::string_view where);
// Empty when absent.
Result<std::map<std::string, std::string>> string_map_field(const Json& object,
                                                            std::string_view key,
                                                            std::string_view where);
Result<std::vector<std::string>> string_list_field(const Json& object, std::string_view key,
                                                   std::string_view where);

// The path of a field or an element, for messages.
std::string field_path(std::string_view where, std::string_view key);
std::string element_path(std::string_view where, std::string_view key, std::size_t index);

}  // namespace imsy::oci
