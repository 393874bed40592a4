//! Damage of every kind.

use crate::world::*;
use std::time::{Duration, Instant};

#[test]
fn no_damage_to_cfi_registers_or_stack_makes_unwinding_panic_or_hang() {
    let seed = u64::from(std::process::id()) | 1;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let worlds = [chain(), interrupted_at(0x300), without_cfi(&[0x90; 7])];
    let started = Instant::now();
    let mut rounds = 0;
    while started.elapsed() < Duration::from_secs(3) {
        let mut world = worlds[rounds % worlds.len()].clone();
        for _ in 0..1 + random(8) {
            let which = random(world.entries.len() as u64) as usize;
            let entry = &mut world.entries[which];
            let bytes = if random(3) == 0 { &mut entry.cie } else { &mut entry.fde };
            match random(8) {
                0 => bytes.truncate(random(bytes.len() as u64 + 1) as usize),
                _ if bytes.is_empty() => {}
                1 => {
                    let at = random(bytes.len() as u64) as usize;
                    bytes.insert(at, random(256) as u8);
                }
                _ => {
                    let at = random(bytes.len() as u64) as usize;
                    bytes[at] = random(256) as u8;
                }
            }
        }
        if random(4) == 0 {
            let which = random(world.registers.len() as u64) as usize;
            world.registers[which].1 = [0, u64::MAX, STACK - 8, u64::MAX / 2][random(4) as usize];
        }
        let before = Instant::now();
        world.unwind();
        assert!(before.elapsed() < Duration::from_secs(2));
        rounds += 1;
    }
    println!("{rounds} rounds");
}
