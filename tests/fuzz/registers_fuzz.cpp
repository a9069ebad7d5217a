// SPDX-License-Identifier: Apache-2.0
// The monitor's `info registers -a`, of any bytes.
#include "tests/fuzz/fuzz_input.h"
#include "vmm-agent/domain/vcpu_registers.h"

std::vector<vpatch::fuzz::Bytes> vpatch::fuzz::seeds() {
  return {
      to_bytes(
          "\r\nCPU#0\r\n"
          "RAX=0000000000000000 RBX=0000000000009000 RCX=00000000000001a9 RDX=0000000000001000\r\n"
          "RSI=0000000000001000 RDI=00007f83c327d2b8 RBP=00007f83c3276000 RSP=ffffd205c0603b88\r\n"
          "R8 =0000000000007000 R9 =ffff8ab24138c6b0 R10=0000000000000447 R11=0000000000000000\r\n"
          "R12=0000000000007000 R13=ffff8ab25adac800 R14=0000000000010000 R15=ffffd205c0603c58\r\n"
          "RIP=ffffffffa09c2a1e RFL=00000206 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n"
          "CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]\r\n"
          "GS =0000 ffff8ab25ee00000 00000000 00000000\r\n"
          "CR0=80050033 CR2=00005633869dc000 CR3=000000001ad5a000 CR4=000006b0\r\n"),
      to_bytes("CPU#2\n"
               "EAX=00000001 EBX=00000002 ECX=00000003 EDX=00000004\n"
               "ESI=00000005 EDI=00000006 EBP=00000007 ESP=ffb3c8d0\n"
               "EIP=08049000 EFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0\n"
               "CS =0023 00000000 ffffffff 00cffb00 DPL=3 CS32 [-RA]\n"
               "GS =0063 f7f5a500 ffffffff 00cff300 DPL=3 DS   [-WA]\n"
               "CR0=80050033 CR2=f7f5a000 CR3=1ad52000 CR4=000006a0\n")};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vpatch::fuzz;
  static_cast<void>(vpatch::parse_registers(text_of(bytes_of(data, size))));
  return 0;
}
