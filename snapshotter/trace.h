// Trace ids: what ties our log lines to a client's trace.
//
// Threads: free functions, any thread.
// Source: W3C Trace Context, section 3.2 (header traceparent), which OpenTelemetry sends.
#pragma once

#include <string>
#include <string_view>

namespace imsy::snapshotter {

// The trace id (32 hex digits) of a traceparent header; "" when the header is malformed.
std::string trace_of(std::string_view traceparent);
// A new one, random.
std::string new_trace();

}  // namespace imsy::snapshotter
