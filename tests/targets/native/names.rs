// What a name in Rust can be: generics, closures, methods of traits, of types and of references, constants as parameters.
use std::fmt::Debug;
use std::io::Write;

struct Shelf<T, const SIZE: usize>([T; SIZE]);

trait Sells {
    fn sell(&self, count: u32) -> u32;
}

impl<T: Debug, const SIZE: usize> Sells for Shelf<T, SIZE> {
    #[inline(never)]
    fn sell(&self, count: u32) -> u32 {
        settle(&self.0.len());
        count + 1
    }
}

impl Sells for &[(u8, &'static str)] {
    #[inline(never)]
    fn sell(&self, count: u32) -> u32 {
        let shelf = Shelf([count; 3]);
        shelf.sell(count) + 1
    }
}

mod inner {
    #[inline(never)]
    pub fn through<F: FnMut(u32) -> u32>(mut each: F) -> u32 {
        each(7) + 1
    }
}

#[inline(never)]
fn settle(size: &usize) {
    println!("ready");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
        std::hint::black_box(size);
    }
}

fn main() {
    let all: &[(u8, &'static str)] = &[(1, "one")];
    std::process::exit(inner::through(|count| std::hint::black_box(&all).sell(count) + 1) as i32);
}
