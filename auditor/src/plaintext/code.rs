//! What x86_64 machine code tells: where a getter finds the field it returns, and where a function returns. Pure functions over
//! bytes that may be anything.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Instructions of a getter that are looked at.
const MOST_OF_GETTER: usize = 48;
/// The first word of a session is what kind it is, in OpenSSL from 3.2 on.
const FIRST_FIELD: u64 = 8;
/// No session is larger, bytes.
const LARGEST_SESSION: u64 = 64 << 10;
/// Returns of one function that are believed.
const MOST_RETURNS: usize = 64;

/// What a function does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It takes its address.
    Address,
    /// It reads it.
    Value,
}

/// The offset, in what the first argument points to, of the first field that a function touches: `lea 0x160(%rdi),%rsi` says 0x160.
/// `None` when it is not to be seen, or the function reads a field whose address was asked for: that is a pointer to something else
/// (in OpenSSL before 3.0 and BoringSSL the random is not in the session itself).
#[must_use]
pub fn argument_field(code: &[u8], access: Access) -> Option<u32> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut argument = vec![Register::RDI];
    let mut instruction = Instruction::default();
    for _ in 0..MOST_OF_GETTER {
        if !decoder.can_decode() {
            return None;
        }
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return None;
        }
        if let Some(field) = field(&instruction, &argument) {
            let address = matches!(instruction.mnemonic(), Mnemonic::Add | Mnemonic::Lea);
            return (address == (access == Access::Address)).then_some(field);
        }
        let target = (instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register)
            .then(|| whole(instruction.op0_register()));
        match (instruction.mnemonic(), target) {
            (Mnemonic::Mov, Some(target)) if is_one_of(&instruction, 1, &argument) => argument.push(target),
            (Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push, _) => {}
            // A call leaves nothing in the registers that arguments are in.
            (Mnemonic::Call, _) => argument.retain(|register| *register == Register::RBX),
            (_, Some(target)) => argument.retain(|register| *register != target),
            _ => {}
        }
    }
    None
}

fn field(instruction: &Instruction, argument: &[Register]) -> Option<u32> {
    let offset = match instruction.mnemonic() {
        Mnemonic::Add if is_one_of(instruction, 0, argument) && is_immediate(instruction.op1_kind()) => {
            instruction.immediate(1)
        }
        Mnemonic::Lea | Mnemonic::Mov | Mnemonic::Movdqu | Mnemonic::Movups
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

/// Whether code begins as Go's compiler begins a function whose stack may grow: it compares the stack pointer with the bound in
/// the goroutine, `0x10(%r14)`. Tells whether an address is one of a function.
#[must_use]
pub fn begins_go_function(code: &[u8]) -> bool {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    for instruction in decoder.iter().take(3) {
        if instruction.mnemonic() == Mnemonic::Cmp && instruction.memory_base() == Register::R14 {
            return instruction.memory_displacement64() == 0x10;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Access::*, *};

    #[test]
    fn getters_show_their_field() {
        let cases: [(&str, &[u8], Access, Option<u32>); 8] = [
            // mov 0x38(%rdi),%eax; ret
            ("SSL_is_server", &[0x8b, 0x47, 0x38, 0xc3], Value, Some(0x38)),
            // mov %rsi,%rcx; mov $0x20,%eax; test %rdx,%rdx; je; cmp %rax,%rdx; lea 0x160(%rdi),%rsi
            (
                "SSL_get_client_random",
                &[
                    0x48, 0x89, 0xf1, 0xb8, 0x20, 0, 0, 0, 0x48, 0x85, 0xd2, 0x74, 0x5d, 0x48, 0x39, 0xc2, 0x48, 0x8d,
                    0xb7, 0x60, 1, 0, 0,
                ],
                Address,
                Some(0x160),
            ),
            // test %rsi,%rsi; je; lea 0x50(%rdi),%rax
            ("gnutls_session_get_random", &[0x48, 0x85, 0xf6, 0x74, 0x0e, 0x48, 0x8d, 0x47, 0x50], Address, Some(0x50)),
            // endbr64; mov (%rdi),%eax; mov 0x78(%rdi),%eax: the kind of a session is passed over
            ("with a kind", &[0xf3, 0x0f, 0x1e, 0xfa, 0x8b, 0x07, 0x8b, 0x47, 0x78, 0xc3], Value, Some(0x78)),
            // mov %rdi,%rax; add $0x160,%rax
            ("through another register", &[0x48, 0x89, 0xf8, 0x48, 0x05, 0x60, 1, 0, 0], Address, Some(0x160)),
            // xor %edi,%edi; mov 0x38(%rdi),%eax: no longer the argument
            ("overwritten", &[0x31, 0xff, 0x8b, 0x47, 0x38, 0xc3], Value, None),
            ("nothing", &[0xc3], Address, None),
            // mov 0x30(%rdi),%rax; lea 0xb8(%rax),%rsi: in what a field points to
            ("through a pointer", &[0x48, 0x8b, 0x47, 0x30, 0x48, 0x8d, 0xb0, 0xb8, 0, 0, 0], Address, None),
        ];
        for (name, code, access, expected) in cases {
            assert_eq!(argument_field(code, access), expected, "{name}");
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
        assert!(begins_go_function(&[0x49, 0x3b, 0x66, 0x10, 0x76, 0x20]));
        assert!(begins_go_function(&[0x4c, 0x8d, 0x64, 0x24, 0x90, 0x4d, 0x3b, 0x66, 0x10]));
        assert!(!begins_go_function(&[0x48, 0x89, 0xf1, 0xb8, 0x20, 0, 0, 0]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(code in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = begins_go_function(&code);
            for field in [Address, Value].into_iter().filter_map(|access| argument_field(&code, access)) {
                prop_assert!((8..1 << 16).contains(&field));
            }
            if let Some(returns) = returns(&code) {
                prop_assert!(returns.iter().all(|at| usize::try_from(*at).unwrap() < code.len()));
                prop_assert!(returns.is_sorted());
            }
        }
    }
}
