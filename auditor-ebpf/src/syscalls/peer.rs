//! Who connected to a server's socket: the process the kernel noted then (`SO_PEERCRED`, unix(7)). It may have handed the
//! connection over since.

use crate::{descriptor::slot, globals, maps::Socket, read};

/// `PIDTYPE_TGID` (include/linux/pid.h): index of the thread group among what is linked to a pid.
const THREAD_GROUP: u64 = 1;
/// `struct hlist_head` and `struct hlist_node` (include/linux/types.h), bytes.
const HEAD: u64 = 8;
const NODE: u64 = 16;

/// Notes who connected. A process that has ended by now is known by its number alone.
#[inline(always)]
pub fn note(sk: u64, socket: &mut Socket) {
    let pid: u64 = read::member(sk, &globals::OFF_SK_PEER_PID);
    // The first of its numbers is that in the initial pid namespace.
    socket.peer_tgid = read::member(pid, &globals::OFF_PID_NUMBERS);
    let heads = u64::from(globals::load(&globals::OFF_PID_TASKS));
    let links = u64::from(globals::load(&globals::OFF_TASK_LINKS));
    let link = slot(pid.wrapping_add(heads + THREAD_GROUP * HEAD));
    let task = link.wrapping_sub(links + THREAD_GROUP * NODE);
    // What is read here is not locked: it counts when it leads back to where it came from.
    let tgid: u32 = read::member(task, &globals::OFF_TASK_TGID);
    if link == 0 || socket.peer_tgid == 0 || tgid != socket.peer_tgid {
        return;
    }
    let leader: u64 = read::member(task, &globals::OFF_TASK_LEADER);
    socket.peer_start_ns = read::member(leader, &globals::OFF_TASK_START);
    socket.peer_comm = read::member(leader, &globals::OFF_TASK_COMM);
    let groups: u64 = read::member(task, &globals::OFF_TASK_CGROUPS);
    let group: u64 = read::member(groups, &globals::OFF_CSS_CGROUP);
    let node: u64 = read::member(group, &globals::OFF_CGROUP_NODE);
    socket.peer_cgroup_id = read::member(node, &globals::OFF_NODE_ID);
}
