//! Many callers at once.

use std::sync::Barrier;

/// Runs the work `count` times, each on a thread of its own, all beginning together; the results come in order.
pub fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (start, work) = (Barrier::new(count), &work);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    work(number)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the work does not panic")).collect()
    })
}

/// Whether races run at full length.
pub fn at_full_length() -> bool {
    std::env::var_os("TOLLGATE_TEST_LONG").is_some()
}
