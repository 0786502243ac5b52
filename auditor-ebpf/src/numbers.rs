//! What the programs at the exit of system calls know of the x86_64 ones that move bytes. Numbers that only one of them needs stand there.

/// Numbers of the calls (arch/x86/entry/syscalls/syscall_64.tbl).
pub const READ: u64 = 0;
pub const WRITE: u64 = 1;
pub const READV: u64 = 19;
pub const WRITEV: u64 = 20;
pub const SENDFILE: u64 = 40;
pub const SENDTO: u64 = 44;
pub const RECVFROM: u64 = 45;
pub const SENDMSG: u64 = 46;
pub const RECVMSG: u64 = 47;
pub const SPLICE: u64 = 275;
pub const RECVMMSG: u64 = 299;
pub const SENDMMSG: u64 = 307;

/// The bits of those below 64.
pub const MOVES: u64 = 1 << READ
    | 1 << WRITE
    | 1 << READV
    | 1 << WRITEV
    | 1 << SENDFILE
    | 1 << SENDTO
    | 1 << RECVFROM
    | 1 << SENDMSG
    | 1 << RECVMSG;

/// `MSG_OOB` and `MSG_PEEK` (include/linux/socket.h).
pub const MSG_OOB: u64 = 1;
pub const MSG_PEEK: u64 = 2;
/// Where `struct user_msghdr` (include/linux/socket.h) keeps the address and number of its pieces.
pub const MESSAGE_PIECES: u64 = 16;
/// `TS_COMPAT` (arch/x86/include/asm/thread_info.h): the call came through the 32-bit entry, which numbers calls differently.
pub const COMPAT: u32 = 2;
