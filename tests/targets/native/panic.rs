// A panic that sleeps in its hook, and a thread that waits, with closures and generics between.
use std::io::Write;

#[inline(never)]
fn each<T: Copy, F: Fn(T) -> usize>(all: &[T], f: F) -> usize {
    all.iter().map(|one| f(*one)).sum()
}

#[inline(never)]
fn failing(index: usize) -> usize {
    let all = vec![1, 2, 3];
    all[index]
}

fn main() {
    std::panic::set_hook(Box::new(|_| {
        println!("ready");
        std::io::stdout().flush().unwrap();
        loop {
            std::thread::park();
        }
    }));
    std::thread::spawn(|| loop {
        std::thread::park();
    });
    std::process::exit(each(&[1usize, 2, 3], |one| failing(one * 2)) as i32);
}
