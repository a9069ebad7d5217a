// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace vpatch::rollout {

/// A plan with each key that there is.
inline constexpr const char* kWholePlan = R"(
name: cve-2026-1234
files:
  - kernel: 6.1.0-56-cloud-amd64
    file: fix-6.1.ko
  - {kernel: 0123456789abcdef0123456789abcdef01234567, file: /srv/fix-6.12.ko}
connections: ["qemu+ssh://a/system", "qemu+ssh://b/system"]
domains:
  names: ["web*", mail]
  groups: [front]
  except: ["*-test"]
canary: {names: [web01], groups: [canary], soak: 30m}
waves:
  - {amount: 5, soak: 10m}
  - {amount: 10%}
  - soak: 1h
limits:
  parallel: 16
  parallel_per_connection: 3
  budget: 2%
  per_domain: 15m
  progress: 2h
healthy_for: 90s
checks:
  - {name: http, command: [curl, -f, "http://localhost/"], where: guest, timeout: 10s}
  - name: script
    command:
      - sh
      - -c
      - |
        true
        exit 0
      - ""
on_failure: rollback
on_overlap: queue
window: {days: [mon, tue, sun], from: "22:00", to: 04:30, zone: Europe/Berlin, cutoff: 30m}
persist: false
apply:
  timeout: 120s
  on-stall: wait
  assist: kick
  signal-after: 20ms
  max-pause: 5ms
  when-clear: 60s
  quiesce: [do_exit, "nf_tables:nft_do_chain"]
  allow-stacking: true
  allow-downgrade: false
  require-signed: true
  settle: 5s
)";

}  // namespace vpatch::rollout
