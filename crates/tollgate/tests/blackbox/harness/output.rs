//! What a process prints: both streams in one text, as they come.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Default)]
pub struct Output {
    text: Arc<Mutex<String>>,
}

impl Output {
    /// Reads the stream to its end on a thread of its own.
    pub fn follow(&self, stream: impl Read + Send + 'static) {
        let output = self.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                output
                    .text
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
    }

    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn length(&self) -> usize {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
