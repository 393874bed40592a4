//! Compiles a CIE and FDE into the rules that hold at one svma.
//!
//! The two entries are all there is: they are laid one after the other as a section of their own, in which the FDE's
//! pointer to its CIE is set to point there. The section's base is such that the FDE keeps its svma, so its pc-relative
//! pointers stay right. A live file and a snapshot go through the same code.

use crate::aarch64::pass_over_signing;
use crate::machine::Machine;
use crate::registers::COUNT;
use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EndianSlice, LittleEndian, RegisterRule, UnwindContext,
    UnwindContextStorage, UnwindExpression, UnwindOffset, UnwindSection, UnwindTableRow,
};
use pyst_elf::CfiEntry;
use pyst_snapshot::Svma;
use pyst_snapshot::payload::CfiSection;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The size of a pointer, in bytes.
const ADDRESS_SIZE: u8 = 8;

/// The longest CIE and FDE, together, that are evaluated.
const MAX_PROGRAM: usize = 1 << 20;

/// Room for rules and remembered rows. Compilers remember one row; hand-written assembly has nested a few.
pub(crate) struct Storage;

impl UnwindContextStorage<usize> for Storage {
    type Rules = [(gimli::Register, RegisterRule<usize>); 64];
    type Stack = Box<[UnwindTableRow<usize, Storage>; 16]>;
}

/// Space for the evaluation of CFI programs, used again and again.
pub(crate) type Scratch = UnwindContext<usize, Storage>;

/// How to find the caller's registers at one svma.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The frame is one that the kernel made to run a signal handler.
    pub(crate) signal: bool,
    /// The first svma after the function.
    pub(crate) end: Svma,
    /// The canonical frame address.
    pub(crate) cfa: Cfa,
    /// The rules that are stated; the psABI's apply to all other registers.
    pub(crate) rules: Vec<(usize, Rule)>,
}

impl Row {
    /// Whether the return address is in a register.
    pub(crate) fn returns_by_register(&self, machine: Machine) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|(number, rule)| *number == machine.return_column() && matches!(rule, Rule::Register(_)))
    }
}

/// The rule for the canonical frame address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cfa {
    /// A register plus an offset.
    Offset(usize, i64),
    /// A DWARF expression.
    Expression(Vec<u8>),
}

/// The rule for a register.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The caller's value is lost; of the return address: there is no caller.
    Undefined,
    /// The caller's value is this frame's.
    Same,
    /// It is in memory, at CFA plus this.
    AtOffset(i64),
    /// It is CFA plus this.
    Offset(i64),
    /// It is in another register.
    Register(usize),
    /// It is in memory, where the expression says.
    AtExpression(Vec<u8>),
    /// It is what the expression says.
    Expression(Vec<u8>),
    /// It is this.
    Constant(u64),
}

/// The rules at `svma`, or `None` when the entry is malformed or does not cover it.
pub(crate) fn compile(entry: &CfiEntry, svma: Svma, machine: Machine, scratch: &mut Scratch) -> Option<Row> {
    let length = entry.cie.len().checked_add(entry.fde.len())?;
    if length > MAX_PROGRAM {
        return None;
    }
    let fde = entry.cie.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(&entry.cie);
    bytes.extend(&entry.fde);
    point_to_cie(&mut bytes, fde, entry.section)?;
    let base = entry.fde_svma.0.wrapping_sub(fde as u64);
    let bases = BaseAddresses::default().set_eh_frame(base);
    if let (Machine::Aarch64 { .. }, Some(start)) = (machine, instructions(&bytes, fde, &bases, entry.section))
        && let Some(entry) = bytes.get_mut(fde..)
    {
        pass_over_signing(entry, start);
    }
    if entry.section == CfiSection::DEBUG_FRAME {
        let mut section = DebugFrame::new(&bytes, LittleEndian);
        section.set_address_size(ADDRESS_SIZE);
        section.set_vendor(machine.vendor());
        evaluate(&section, &bases, fde, svma, machine, scratch)
    } else {
        let mut section = EhFrame::new(&bytes, LittleEndian);
        section.set_address_size(ADDRESS_SIZE);
        section.set_vendor(machine.vendor());
        evaluate(&section, &bases, fde, svma, machine, scratch)
    }
}

/// Where the instructions of the FDE at `fde` start, from there.
fn instructions(bytes: &[u8], fde: usize, bases: &BaseAddresses, section: CfiSection) -> Option<usize> {
    let is_64_bit = bytes.get(fde..)?.starts_with(&[0xff; 4]);
    let (length, narrow, wide) = if is_64_bit { (12usize, 4usize, 8usize) } else { (4, 4, 4) };
    if section == CfiSection::DEBUG_FRAME {
        // A pointer to the CIE and two addresses.
        return Some(length + wide + 2 * usize::from(ADDRESS_SIZE));
    }
    let section = EhFrame::new(bytes, LittleEndian);
    let cie = section.cie_from_offset(bases, 0.into()).ok()?;
    let size = match cie.fde_address_encoding().map_or(0, |encoding| encoding.0 & 0x0f) {
        0x00 | 0x04 | 0x0c => 8,
        0x02 | 0x0a => 2,
        0x03 | 0x0b => 4,
        _ => return None,
    };
    let at = length + narrow + 2 * size;
    if cie.augmentation().is_none() {
        return Some(at);
    }
    // Its own augmentation: a length and that many bytes. Longer ones than a pointer to a table of handlers there are none.
    let own = bytes.get(fde.checked_add(at)?).filter(|own| **own < 0x80)?;
    Some(at + 1 + usize::from(*own))
}

/// Sets the CIE pointer of the FDE at `fde` to the start of `bytes`.
fn point_to_cie(bytes: &mut [u8], fde: usize, section: CfiSection) -> Option<()> {
    let is_64_bit = bytes.get(fde..)?.starts_with(&[0xff; 4]);
    let field = fde.checked_add(if is_64_bit { 12 } else { 4 })?;
    if section == CfiSection::DEBUG_FRAME {
        // An offset from the start of the section.
        let width = if is_64_bit { 8 } else { 4 };
        bytes.get_mut(field..field.checked_add(width)?)?.fill(0);
    } else {
        // A distance back from the field itself, four bytes in either format.
        let distance = u32::try_from(field).ok()?;
        bytes.get_mut(field..field.checked_add(4)?)?.copy_from_slice(&distance.to_le_bytes());
    }
    Some(())
}

fn evaluate<'a, S>(
    section: &S,
    bases: &BaseAddresses,
    fde: usize,
    svma: Svma,
    machine: Machine,
    scratch: &mut Scratch,
) -> Option<Row>
where
    S: UnwindSection<Slice<'a>>,
    S::Offset: UnwindOffset<usize>,
{
    let fde = section.fde_from_offset(bases, fde.into(), S::cie_from_offset).ok()?;
    // What a return address is called differs between instruction sets only.
    if usize::from(fde.cie().return_address_register().0) != machine.return_column() {
        return None;
    }
    let row = fde.unwind_info_for_address(section, bases, scratch, svma.0).ok()?;
    let expression = |expression: &UnwindExpression<usize>| {
        let bytes: gimli::Expression<Slice<'a>> = expression.get(section).ok()?;
        Some(bytes.0.slice().to_vec())
    };
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => Cfa::Offset(usize::from(register.0), *offset),
        CfaRule::Expression(rule) => Cfa::Expression(expression(rule)?),
    };
    let mut rules = Vec::new();
    for (register, rule) in row.registers() {
        let number = usize::from(register.0);
        if number >= COUNT {
            continue;
        }
        let rule = match rule {
            RegisterRule::Undefined => Rule::Undefined,
            RegisterRule::SameValue => Rule::Same,
            RegisterRule::Offset(offset) => Rule::AtOffset(*offset),
            RegisterRule::ValOffset(offset) => Rule::Offset(*offset),
            RegisterRule::Register(other) => Rule::Register(usize::from(other.0)),
            RegisterRule::Expression(rule) => Rule::AtExpression(expression(rule)?),
            RegisterRule::ValExpression(rule) => Rule::Expression(expression(rule)?),
            RegisterRule::Constant(value) => Rule::Constant(*value),
            RegisterRule::Architectural => return None,
        };
        rules.push((number, rule));
    }
    Some(Row { signal: fde.is_signal_trampoline(), end: Svma(fde.end_address()), cfa, rules })
}
