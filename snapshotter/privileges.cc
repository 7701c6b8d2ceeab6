#include "snapshotter/privileges.h"

#include <cap-ng.h>
#include <seccomp.h>
#include <sys/prctl.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>

namespace imsy::snapshotter {
namespace {

constexpr std::array kKept = {
    CAP_SYS_ADMIN,                          // mount, umount, trusted attributes
    CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,  // what containers wrote: measured, deleted
    CAP_CHOWN,        CAP_FOWNER,          CAP_FSETID};

// Names, because not every kernel's headers have all of them.
constexpr std::array kRefused = {
    // other processes
    "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    // the kernel itself
    "bpf", "create_module", "delete_module", "finit_module", "init_module", "kexec_file_load",
    "kexec_load", "perf_event_open", "syslog", "userfaultfd", "io_uring_enter", "io_uring_register",
    "io_uring_setup",
    // the machine
    "acct", "adjtimex", "clock_adjtime", "clock_settime", "ioperm", "iopl", "quotactl",
    "quotactl_fd", "reboot", "setdomainname", "sethostname", "settimeofday", "stime", "swapoff",
    "swapon", "vhangup",
    // ways out of what a process was given
    "add_key", "chroot", "keyctl", "open_by_handle_at", "personality", "pivot_root", "request_key",
    "setns", "unshare",
    // what only old programs call
    "lookup_dcookie", "modify_ldt", "nfsservctl", "sysfs", "uselib", "ustat", "vm86", "vm86old"};

Status drop_capabilities() {
  if (capng_get_caps_process() != 0) return Error(Errc::kInternal, "capabilities cannot be read");
  std::array<bool, kKept.size()> had = {};
  for (std::size_t i = 0; i < kKept.size(); ++i) {
    had[i] = capng_have_capability(CAPNG_PERMITTED, static_cast<unsigned>(kKept[i])) != 0;
  }
  capng_clear(CAPNG_SELECT_ALL);
  for (std::size_t i = 0; i < kKept.size(); ++i) {
    if (!had[i]) continue;  // whoever started us knows why
    const auto sets =
        static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET);
    capng_update(CAPNG_ADD, sets, static_cast<unsigned>(kKept[i]));
  }
  errno = 0;
  if (const int failed = capng_apply(CAPNG_SELECT_ALL); failed != 0) {
    return Error::from_errno(errno != 0 ? errno : EPERM,
                             "give up capabilities (step " + std::to_string(-failed) + ")");
  }
  return {};
}

Status refuse_system_calls() {
  const std::unique_ptr<void, decltype(&seccomp_release)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                                 &seccomp_release);
  if (filter == nullptr) return Error(Errc::kInternal, "no filter of system calls can be made");
  for (const char* name : kRefused) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR) continue;  // unknown to the library
    const int added = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), number, 0);
    // Calls that this architecture does not have.
    if (added != 0 && added != -EDOM && added != -EINVAL) {
      return Error::from_errno(-added, std::string("refuse the system call ") + name);
    }
  }
  if (const int loaded = seccomp_load(filter.get()); loaded != 0) {
    return Error::from_errno(-loaded, "load the filter of system calls");
  }
  return {};
}

}  // namespace

Status reduce_privileges() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return Error::from_errno(errno, "give up new privileges");
  }
  IMSY_TRY(refuse_system_calls());
  return drop_capabilities();
}

}  // namespace imsy::snapshotter
