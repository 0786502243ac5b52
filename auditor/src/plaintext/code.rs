//! What x86_64 machine code tells: where a getter finds the field it returns, and where a function returns. Pure functions over
//! bytes that may be anything.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Instructions of a getter that are looked at, on all ways through it.
const MOST_OF_GETTER: usize = 256;
/// The first word of a session is what kind it is, in OpenSSL from 3.2 on.
const FIRST_FIELD: u64 = 8;
/// No session is larger, bytes.
const LARGEST_SESSION: u64 = 64 << 10;
/// Returns of one function that are believed.
const MOST_RETURNS: usize = 64;
/// Instructions of the check of the stack that begins a Go function.
const MOST_OF_CHECK: usize = 5;

/// Where a session keeps what a getter gives the address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The offset, in the session, of the pointer to what it lies in; `None`: the session itself.
    pub pointer: Option<u32>,
    /// Its offset there.
    pub field: u32,
}

/// Bits of an integer in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The integer's offset in the session.
    pub field: u32,
    /// The bits.
    pub mask: u32,
}

/// The place whose address a function takes, in what its first argument points to: `lea 0x160(%rdi),%rsi` says 0x160. Or in what
/// that points to in turn, as in OpenSSL before 3.0 and BoringSSL: `mov 0x30(%rdi),%rax; add $0x30,%rax`. `None` when it is not to be
/// seen, or not the same on all ways through the function.
#[must_use]
pub fn argument_address(code: &[u8]) -> Option<Place> {
    one(addresses(code)?.into_iter())
}

/// The same of a function that gives several addresses, where it is asked for them: the one it gives first, if asked for all.
#[must_use]
pub fn first_argument_address(code: &[u8]) -> Option<Place> {
    addresses(code)?.into_iter().next()?
}

/// The place whose address is taken first, on each way through a function.
fn addresses(code: &[u8]) -> Option<Vec<Option<Place>>> {
    let mut left = MOST_OF_GETTER;
    let touches_of = touches(code, Way::begin(), &mut left)?;
    let place = |Touch { instruction, field, mut behind }| {
        if takes_address(&instruction) {
            return Some(Place { pointer: None, field });
        }
        if instruction.code() != Code::Mov_r64_rm64 {
            return None;
        }
        // From here on it is what this register holds that counts.
        behind.argument = vec![instruction.op0_register()];
        one(touches(code, behind, &mut left)?.into_iter().map(|second| {
            takes_address(&second.instruction).then_some(Place { pointer: Some(field), field: second.field })
        }))
    };
    Some(touches_of.into_iter().map(place).collect())
}

/// The offset, in what the first argument points to, of the first field that a function touches, when it reads it on all ways.
#[must_use]
pub fn argument_value(code: &[u8]) -> Option<u32> {
    let touches = touches(code, Way::begin(), &mut { MOST_OF_GETTER })?;
    one(touches.into_iter().map(|touch| (!takes_address(&touch.instruction)).then_some(touch.field)))
}

/// The bits of the first field that a function touches which make what it returns: `movzbl 0xa4(%rdi),%eax; and $1,%eax`.
#[must_use]
pub fn argument_flag(code: &[u8]) -> Option<Flag> {
    let mut left = MOST_OF_GETTER;
    one(touches(code, Way::begin(), &mut left)?.into_iter().map(|touch| flag(code, touch, &mut left)))
}

/// What is made of a field between the instruction that reads it and the return.
fn flag(code: &[u8], Touch { instruction: reading, field, mut behind }: Touch, left: &mut usize) -> Option<Flag> {
    let mut mask = match reading.code() {
        Code::Mov_r32_rm32 => u32::MAX,
        Code::Movzx_r32_rm8 => 0xff,
        Code::Movzx_r32_rm16 => 0xffff,
        _ => return None,
    };
    let (held, mut shift) = (whole(reading.op0_register()), 0);
    if held != Register::RAX {
        return None;
    }
    loop {
        let instruction = behind.next(code, left)?;
        let of_it = instruction.op_count() > 0
            && instruction.op0_kind() == OpKind::Register
            && whole(instruction.op0_register()) == held;
        let constant = of_it.then(|| instruction.try_immediate(1).ok()).flatten();
        let constant = constant.and_then(|constant| u32::try_from(constant & u64::from(u32::MAX)).ok());
        match (instruction.mnemonic(), constant) {
            (Mnemonic::Ret, _) => return Some(Flag { field, mask }).filter(|flag| flag.mask != 0),
            (Mnemonic::And, Some(bits)) => mask &= bits.checked_shl(shift)?,
            (Mnemonic::Shr, Some(by)) => {
                shift = by.checked_add(shift)?;
                mask &= u32::MAX.checked_shl(shift)?;
            }
            // The end of a function that kept something on the stack, or that clears the registers it used.
            _ if !of_it && instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register => {}
            _ => return None,
        }
    }
}

/// What all agree on; `None` where there is nothing, or one says nothing.
fn one<T: PartialEq>(mut found: impl Iterator<Item = Option<T>>) -> Option<T> {
    let first = found.next()??;
    found.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// A place in a function, on one of the ways through it.
#[derive(Clone)]
struct Way {
    at: usize,
    /// Registers that hold the first argument there.
    argument: Vec<Register>,
}

/// An instruction that touches a field of the first argument.
struct Touch {
    instruction: Instruction,
    field: u32,
    behind: Way,
}

impl Way {
    fn begin() -> Self {
        Self { at: 0, argument: vec![Register::RDI] }
    }

    fn next(&mut self, code: &[u8], left: &mut usize) -> Option<Instruction> {
        *left = left.checked_sub(1)?;
        let mut decoder = Decoder::with_ip(64, code.get(self.at..)?, self.at as u64, DecoderOptions::NONE);
        let instruction = decoder.can_decode().then(|| decoder.decode()).filter(|it| !it.is_invalid())?;
        self.at = usize::try_from(instruction.next_ip()).ok()?;
        Some(instruction)
    }

    /// Follows what an instruction does to the registers.
    fn follow(&mut self, instruction: &Instruction) {
        let target = (instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register)
            .then(|| whole(instruction.op0_register()));
        match (instruction.mnemonic(), target) {
            (Mnemonic::Mov, Some(target)) if is_one_of(instruction, 1, &self.argument) => self.argument.push(target),
            (Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push, _) => {}
            // A call leaves nothing in the registers that arguments are in.
            (Mnemonic::Call, _) => self.argument.retain(|register| *register == Register::RBX),
            (_, Some(target)) => self.argument.retain(|register| *register != target),
            _ => {}
        }
    }
}

/// The first touch on each way through the code that has one. `None` where the code is too long to tell.
fn touches(code: &[u8], from: Way, left: &mut usize) -> Option<Vec<Touch>> {
    let (mut ways, mut found) = (vec![from], Vec::new());
    while let Some(mut way) = ways.pop() {
        // A way without the argument touches nothing of it.
        while !way.argument.is_empty() {
            if *left == 0 {
                return None;
            }
            let Some(instruction) = way.next(code, left) else { break };
            if let Some(field) = field(&instruction, &way.argument) {
                found.push(Touch { instruction, field, behind: way });
                break;
            }
            let branches = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64;
            let target = usize::try_from(instruction.near_branch_target()).ok().filter(|target| *target < code.len());
            match (instruction.mnemonic(), branches, target) {
                (Mnemonic::Jmp, true, Some(target)) => way.at = target,
                (Mnemonic::Jmp | Mnemonic::Ret | Mnemonic::Ud2 | Mnemonic::Int3, ..) => break,
                (Mnemonic::Call, ..) | (_, false, _) => way.follow(&instruction),
                // A condition: both ways.
                (_, true, target) => ways.extend(target.map(|at| Way { at, ..way.clone() })),
            }
        }
    }
    Some(found)
}

fn takes_address(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Add | Mnemonic::Lea)
}

fn field(instruction: &Instruction, argument: &[Register]) -> Option<u32> {
    let offset = match instruction.mnemonic() {
        Mnemonic::Add if is_one_of(instruction, 0, argument) && is_immediate(instruction.op1_kind()) => {
            instruction.immediate(1)
        }
        Mnemonic::Lea | Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movdqu | Mnemonic::Movups
            if instruction.op1_kind() == OpKind::Memory
                && argument.contains(&instruction.memory_base())
                && instruction.memory_index() == Register::None =>
        {
            instruction.memory_displacement64()
        }
        _ => return None,
    };
    (FIRST_FIELD..LARGEST_SESSION).contains(&offset).then(|| u32::try_from(offset).ok()).flatten()
}

fn is_one_of(instruction: &Instruction, operand: u32, registers: &[Register]) -> bool {
    instruction.op_kind(operand) == OpKind::Register && registers.contains(&instruction.op_register(operand))
}

/// The 64-bit register that a 32-bit one is half of: writing the half clears the other.
fn whole(register: Register) -> Register {
    use Register as R;
    const HALVES: [(R, R); 16] = [
        (R::EAX, R::RAX),
        (R::EBX, R::RBX),
        (R::ECX, R::RCX),
        (R::EDX, R::RDX),
        (R::ESI, R::RSI),
        (R::EDI, R::RDI),
        (R::EBP, R::RBP),
        (R::ESP, R::RSP),
        (R::R8D, R::R8),
        (R::R9D, R::R9),
        (R::R10D, R::R10),
        (R::R11D, R::R11),
        (R::R12D, R::R12),
        (R::R13D, R::R13),
        (R::R14D, R::R14),
        (R::R15D, R::R15),
    ];
    HALVES.iter().find(|(half, _)| *half == register).map_or(register, |(_, whole)| *whole)
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(kind, OpKind::Immediate8to64 | OpKind::Immediate32to64 | OpKind::Immediate64)
}

/// Offsets of a function's return instructions. `None` when it cannot be decoded to its end, has none, or too many: a return
/// that is missed would leave a call open.
#[must_use]
pub fn returns(code: &[u8]) -> Option<Vec<u64>> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut found = Vec::new();
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return None;
        }
        if matches!(instruction.code(), Code::Retnq | Code::Retnq_imm16) {
            found.push(instruction.ip());
        }
    }
    (!found.is_empty() && found.len() <= MOST_RETURNS).then_some(found)
}

/// The offset behind the check that Go's compiler begins a function with whose stack may grow: it compares the stack pointer with
/// the bound in the goroutine, `0x10(%r14)`, and jumps away when the stack is to grow or the goroutine is to give way. Either way the
/// function then begins anew: its first instruction may run several times in one call, the one behind the check runs once, with the
/// arguments and the stack pointer as they were. `None` when code begins otherwise, which also tells that an address is none of a
/// function.
#[must_use]
pub fn behind_stack_check(code: &[u8]) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut checked = false;
    for instruction in decoder.iter().take(MOST_OF_CHECK) {
        match instruction.mnemonic() {
            Mnemonic::Jbe if checked => return Some(instruction.next_ip()),
            _ if checked => return None,
            Mnemonic::Cmp if instruction.memory_base() == Register::R14 => {
                checked = instruction.memory_displacement64() == 0x10;
                if !checked {
                    return None;
                }
            }
            // The place to compare, where the function needs much of the stack; it may lie before the first address.
            Mnemonic::Lea | Mnemonic::Mov | Mnemonic::Sub | Mnemonic::Jb => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A function's name and code, the place whose address it takes, and the field it reads.
    type Getter = (&'static str, &'static [u8], Option<Place>, Option<u32>);

    #[test]
    fn getters_show_their_field() {
        let at = |field| Some(Place { pointer: None, field });
        let cases: [Getter; 13] = [
            // mov 0x38(%rdi),%eax; ret
            ("SSL_is_server", &[0x8b, 0x47, 0x38, 0xc3], None, Some(0x38)),
            // mov %rsi,%rcx; mov $0x20,%eax; test %rdx,%rdx; je; cmp %rax,%rdx; lea 0x160(%rdi),%rsi
            (
                "SSL_get_client_random",
                &[
                    0x48, 0x89, 0xf1, 0xb8, 0x20, 0, 0, 0, 0x48, 0x85, 0xd2, 0x74, 0x5d, 0x48, 0x39, 0xc2, 0x48, 0x8d,
                    0xb7, 0x60, 1, 0, 0,
                ],
                at(0x160),
                None,
            ),
            // mov $0x20,%eax; test %rdx,%rdx; je; cmp $0x20,%rdx; mov 0xa8(%rdi),%rdi; cmovbe %rdx,%rax; lea 0xb8(%rdi),%rcx
            (
                "that of OpenSSL 1.1.1",
                &[
                    0xb8, 0x20, 0, 0, 0, 0x48, 0x85, 0xd2, 0x74, 0x65, 0x48, 0x83, 0xfa, 0x20, 0x48, 0x8b, 0xbf, 0xa8,
                    0, 0, 0, 0x48, 0x0f, 0x46, 0xc2, 0x48, 0x8d, 0x8f, 0xb8, 0, 0, 0,
                ],
                Some(Place { pointer: Some(0xa8), field: 0xb8 }),
                Some(0xa8),
            ),
            // push %rbx; test %rdx,%rdx; je; cmp $0x20,%rdx; mov $0x20,%ebx; cmovb %rdx,%rbx; mov 0x30(%rdi),%rax; add $0x30,%rax
            (
                "that of BoringSSL",
                &[
                    0x53, 0x48, 0x85, 0xd2, 0x74, 0x25, 0x48, 0x83, 0xfa, 0x20, 0xbb, 0x20, 0, 0, 0, 0x48, 0x0f, 0x42,
                    0xda, 0x48, 0x8b, 0x47, 0x30, 0x48, 0x83, 0xc0, 0x30,
                ],
                Some(Place { pointer: Some(0x30), field: 0x30 }),
                Some(0x30),
            ),
            // test %rsi,%rsi; je; lea 0x50(%rdi),%rax
            ("gnutls_session_get_random", &[0x48, 0x85, 0xf6, 0x74, 0x0e, 0x48, 0x8d, 0x47, 0x50], at(0x50), None),
            // endbr64; mov (%rdi),%eax; mov 0x78(%rdi),%eax: the kind of a session is passed over
            ("with a kind", &[0xf3, 0x0f, 0x1e, 0xfa, 0x8b, 0x07, 0x8b, 0x47, 0x78, 0xc3], None, Some(0x78)),
            // mov %rdi,%rax; add $0x160,%rax
            ("through another register", &[0x48, 0x89, 0xf8, 0x48, 0x05, 0x60, 1, 0, 0], at(0x160), None),
            // xor %edi,%edi; mov 0x38(%rdi),%eax: no longer the argument
            ("overwritten", &[0x31, 0xff, 0x8b, 0x47, 0x38, 0xc3], None, None),
            ("nothing", &[0xc3], None, None),
            // mov (%rdi),%eax; test %eax,%eax; je 1f; test $0x80,%al; je 2f; call; mov %rax,%rdi; 1: lea 0x188(%rdi),%rcx; 2: ret
            (
                "that of OpenSSL 3.5, where a session may be one of QUIC",
                &[
                    0x8b, 0x07, 0x85, 0xc0, 0x74, 0x0c, 0xa8, 0x80, 0x74, 0x0f, 0xe8, 0, 1, 0, 0, 0x48, 0x89, 0xc7,
                    0x48, 0x8d, 0x8f, 0x88, 1, 0, 0, 0xc3,
                ],
                at(0x188),
                None,
            ),
            // test %esi,%esi; je 1f; lea 0x160(%rdi),%rax; ret; 1: lea 0x180(%rdi),%rax; ret
            (
                "two ways that differ",
                &[0x85, 0xf6, 0x74, 8, 0x48, 0x8d, 0x87, 0x60, 1, 0, 0, 0xc3, 0x48, 0x8d, 0x87, 0x80, 1, 0, 0, 0xc3],
                None,
                None,
            ),
            // 1: jmp 1b
            ("no end", &[0xeb, 0xfe], None, None),
            // mov 0x30(%rdi),%rax; xor %eax,%eax; lea 0xb8(%rax),%rsi: no longer what the field points to
            (
                "through a pointer that is overwritten",
                &[0x48, 0x8b, 0x47, 0x30, 0x31, 0xc0, 0x48, 0x8d, 0xb0, 0xb8, 0, 0, 0],
                None,
                Some(0x30),
            ),
        ];
        for (name, code, address, value) in cases {
            assert_eq!((argument_address(code), argument_value(code)), (address, value), "{name}");
        }
    }

    #[test]
    fn of_several_addresses_the_first_counts() {
        // test %rsi,%rsi; je 1f; lea 0x50(%rdi),%rax; mov %rax,(%rsi); 1: test %rdx,%rdx; je 2f; lea 0x70(%rdi),%rax; 2: ret
        let code = [
            0x48, 0x85, 0xf6, 0x74, 7, 0x48, 0x8d, 0x47, 0x50, 0x48, 0x89, 0x06, 0x48, 0x85, 0xd2, 0x74, 4, 0x48, 0x8d,
            0x47, 0x70, 0xc3,
        ];
        assert_eq!(argument_address(&code), None);
        assert_eq!(first_argument_address(&code), Some(Place { pointer: None, field: 0x50 }));
    }

    #[test]
    fn flags_are_integers_or_bits_of_one() {
        let flag = |field, mask| Some(Flag { field, mask });
        let cases: [(&str, &[u8], Option<Flag>); 9] = [
            // mov 0x38(%rdi),%eax; ret
            ("an integer", &[0x8b, 0x47, 0x38, 0xc3], flag(0x38, u32::MAX)),
            // mov 0x38(%rdi),%eax; xor %edi,%edi; ret
            ("that of Debian 12", &[0x8b, 0x47, 0x38, 0x31, 0xff, 0xc3], flag(0x38, u32::MAX)),
            // mov 0x38(%rdi),%eax; test %eax,%eax; sete %al; ret
            ("whether there is none", &[0x8b, 0x47, 0x38, 0x85, 0xc0, 0x0f, 0x94, 0xc0, 0xc3], None),
            // movzbl 0xa4(%rdi),%eax; and $1,%eax; ret
            ("a bit", &[0x0f, 0xb6, 0x87, 0xa4, 0, 0, 0, 0x83, 0xe0, 1, 0xc3], flag(0xa4, 1)),
            // movzbl 0xa4(%rdi),%eax; shr $3,%eax; and $1,%eax; ret
            ("another bit", &[0x0f, 0xb6, 0x87, 0xa4, 0, 0, 0, 0xc1, 0xe8, 3, 0x83, 0xe0, 1, 0xc3], flag(0xa4, 8)),
            // movzbl 0xa4(%rdi),%eax; ret
            ("a byte", &[0x0f, 0xb6, 0x87, 0xa4, 0, 0, 0, 0xc3], flag(0xa4, 0xff)),
            // movzbl 0xa4(%rdi),%eax; and $0,%eax; ret
            ("nothing of it", &[0x0f, 0xb6, 0x87, 0xa4, 0, 0, 0, 0x83, 0xe0, 0, 0xc3], None),
            // movzbl 0xa4(%rdi),%eax; not %eax; ret
            ("its opposite", &[0x0f, 0xb6, 0x87, 0xa4, 0, 0, 0, 0xf7, 0xd0, 0xc3], None),
            // mov 0x38(%rdi),%rax; ret
            ("a pointer", &[0x48, 0x8b, 0x47, 0x38, 0xc3], None),
        ];
        for (name, code, expected) in cases {
            assert_eq!(argument_flag(code), expected, "{name}");
        }
    }

    #[test]
    fn every_return_is_found_and_bytes_inside_of_instructions_are_none() {
        // mov $0xc3,%eax; ret; nop; ret
        assert_eq!(returns(&[0xb8, 0xc3, 0, 0, 0, 0xc3, 0x90, 0xc3]), Some(vec![5, 7]));
        assert_eq!(returns(&[0x90]), None, "no return");
        assert_eq!(returns(&[0xc3, 0x0f]), None, "cut in an instruction");
        assert_eq!(returns(&[0xc3; 65]), None, "too many");
    }

    #[test]
    fn go_functions_begin_with_a_check_of_the_stack() {
        let cases: [(&str, &[u8], Option<u64>); 7] = [
            // cmp 0x10(%r14),%rsp; jbe; push %rbp
            ("small", &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x20, 0x55], Some(6)),
            // lea -0x48(%rsp),%r12; cmp 0x10(%r14),%r12; jbe (near); push %rbp
            (
                "medium",
                &[0x4c, 0x8d, 0x64, 0x24, 0xb8, 0x4d, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0xb3, 7, 0, 0, 0x55],
                Some(15),
            ),
            // mov %rsp,%r12; sub $0x2000,%r12; jb; cmp 0x10(%r14),%r12; jbe; push %rbp
            (
                "large",
                &[
                    0x49, 0x89, 0xe4, 0x49, 0x81, 0xec, 0, 0x20, 0, 0, 0x72, 0x20, 0x4d, 0x3b, 0x66, 0x10, 0x76, 0x20,
                    0x55,
                ],
                Some(18),
            ),
            // cmp 0x20(%r14),%rsp; jbe
            ("another field", &[0x49, 0x3b, 0x66, 0x20, 0x76, 0x20], None),
            // cmp 0x10(%r14),%rsp; push %rbp
            ("no jump", &[0x49, 0x3b, 0x66, 0x10, 0x55], None),
            ("no check", &[0x48, 0x89, 0xf1, 0xb8, 0x20, 0, 0, 0], None),
            ("cut", &[0x49, 0x3b, 0x66, 0x10], None),
        ];
        for (name, code, expected) in cases {
            assert_eq!(behind_stack_check(code), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(code in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Some(behind) = behind_stack_check(&code) {
                prop_assert!(usize::try_from(behind).unwrap() <= code.len());
            }
            let place = argument_address(&code);
            let fields = place.into_iter().flat_map(|place| [Some(place.field), place.pointer]);
            for field in fields.chain([argument_value(&code), argument_flag(&code).map(|flag| flag.field)]).flatten() {
                prop_assert!((8..1 << 16).contains(&field));
            }
            if let Some(returns) = returns(&code) {
                prop_assert!(returns.iter().all(|at| usize::try_from(*at).unwrap() < code.len()));
                prop_assert!(returns.is_sorted());
            }
        }
    }
}
