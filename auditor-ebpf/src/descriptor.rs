//! From a file descriptor of the current process to its socket.

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};

use crate::{globals, read};

/// A file that is a socket.
pub struct Descriptor {
    /// Its `struct file`.
    #[allow(dead_code, reason = "one of the objects has no use for it")]
    pub file: u64,
    /// Its `struct sock`.
    pub sk: u64,
}

/// The socket behind a descriptor; `None` when it is none.
#[inline(always)]
pub fn socket(fd: u64) -> Option<Descriptor> {
    // SAFETY: no arguments.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read::member(task, &globals::OFF_TASK_FILES);
    let table: u64 = read::member(files, &globals::OFF_FILES_TABLE);
    let size: u32 = read::member(table, &globals::OFF_TABLE_SIZE);
    if fd >= u64::from(size) {
        return None;
    }
    let slots: u64 = read::member(table, &globals::OFF_TABLE_FILES);
    let file = slot(slots.wrapping_add(fd * 8));
    // Any file has private data; only a socket's points back at the file.
    let socket: u64 = read::member(file, &globals::OFF_FILE_PRIVATE);
    let back: u64 = read::member(socket, &globals::OFF_SOCKET_FILE);
    if file == 0 || back != file {
        return None;
    }
    Some(Descriptor { file, sk: read::member(socket, &globals::OFF_SOCKET_SK) })
}

/// The pointer at a kernel address; 0 when it cannot be read.
#[inline(always)]
pub fn slot(address: u64) -> u64 {
    let mut value = 0_u64;
    // SAFETY: the helper checks the address and fills the value or zeroes it.
    unsafe {
        bpf_probe_read_kernel((&raw mut value).cast(), size_of::<u64>() as u32, address as *const core::ffi::c_void)
    };
    value
}
