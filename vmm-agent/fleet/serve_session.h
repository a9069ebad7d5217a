// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/json/object.hpp>

#include "vmm-agent/fleet/domain_session.h"
#include "vmm-agent/fleet/host_command.h"
#include "vmm-agent/fleet/verb_answer.h"
#include "vmm-agent/patch/livepatch_file.h"
#include "vmm-agent/rollout/plan.h"
#include "vmm-agent/serve/client.h"

namespace vpatch::fleet {

/// Where the bytes of livepatch files are, by their SHA-256.
struct FileAccess {
  std::function<Result<std::vector<std::byte>>(const std::string& sha256)> read;
  std::function<Result<void>(const std::string& sha256, std::span<const std::byte>)> keep;
};

/// The domains of one connection, driven by the `vpatch serve --stdio` of their host. What an
/// action of the engine takes is a few requests in turn (docs/serve.md).
class ServeSession final : public DomainSession {
 public:
  /// `plan` and `rollout` outlive it. `rollout` is read as it is at each action.
  ServeSession(const boost::asio::any_io_executor& executor, const HostCommand& host,
               const rollout::Plan& plan, const StoredRollout& rollout, FileAccess files,
               SessionEvents events);

  void connect() override { client_.connect(); }
  void look(rollout::DomainId domain, rollout::OperationId operation) override;
  void apply(rollout::DomainId domain, rollout::OperationId operation) override;
  void check_health(rollout::DomainId domain, rollout::OperationId operation) override;
  void revert(rollout::DomainId domain, rollout::OperationId operation) override;
  void leave_to_ensure(rollout::DomainId domain) override;
  void cancel(rollout::OperationId operation) override;
  /// What an apply would do (--dry-run). Answered once, unless `lost` comes.
  void preview(rollout::DomainId domain, std::function<void(const VerbAnswer&)> answered);
  void close() override { client_.close(); }

 private:
  template <class T = void>
  using Task = boost::asio::awaitable<T>;

  /// One operation of the engine, as long as it runs.
  struct Work {
    rollout::DomainId domain = 0;
    std::int64_t request = 0;  ///< of the server, that is awaited now; 0: none
    std::stop_source stop{};   ///< it was cancelled
  };
  using Works = std::map<rollout::OperationId, Work>;

  void start(rollout::DomainId domain, rollout::OperationId operation, Task<> task);
  void run_aside(Task<> task);
  Task<> do_look(Work& work, rollout::OperationId operation);
  Task<> do_apply(Work& work, rollout::OperationId operation);
  Task<rollout::Finished> apply_livepatch(Work& work);
  Task<std::vector<std::string>> keep_former(Work& work, const GuestLook& guest);
  Task<std::vector<std::string>> keep_registered(Work& work, std::vector<std::string>* only);
  Task<std::string> fetch(Work& work, const std::string& sha256);
  Task<> do_check(Work& work, rollout::OperationId operation);
  Task<rollout::HealthVerdict> check_all(Work& work);
  Task<> do_revert(Work& work, rollout::OperationId operation);
  Task<rollout::Finished> take_back(Work& work);
  Task<rollout::Finished> forget(Work& work, const std::vector<LivepatchFile>& former,
                                 std::string why);
  Task<rollout::Finished> put_back(Work& work, const std::vector<LivepatchFile>& missing,
                                   bool ours_in_force);
  Task<> do_leave_to_ensure(rollout::DomainId domain);
  Task<bool> register_ours(Work& work);
  Task<> do_preview(rollout::DomainId domain, std::function<void(const VerbAnswer&)> answered);
  Task<VerbAnswer> register_file(Work& work, const std::string& sha256);

  /// A request about the work's domain, sent and answered.
  Task<VerbAnswer> call(Work& work, std::string method, boost::json::object params);
  Task<serve::Client::Reply> request(Work& work, std::string method, boost::json::object params);
  Task<VerbAnswer> change(Work& work, std::string method, boost::json::object params,
                          const std::string& sha256);
  Task<GuestLook> look_at(Work& work, bool against_mark);
  /// Has the server hold a file. Empty, or why it does not.
  Task<std::string> put_file(Work& work, const std::string& sha256);

  const RolloutDomain& domain(rollout::DomainId id) const { return rollout_.begin.domains[id]; }
  const RolloutFile& file_of(rollout::DomainId id) const;
  boost::json::array options_of(std::string_view method) const;

  boost::asio::any_io_executor executor_;
  std::string connection_;
  const rollout::Plan& plan_;
  const StoredRollout& rollout_;
  FileAccess files_;
  SessionEvents events_;
  Works works_;
  std::map<std::int64_t, rollout::DomainId> domain_of_request_;
  std::set<std::string> files_there_;  ///< of this connection, by SHA-256
  serve::Client client_;
};

}  // namespace vpatch::fleet
