//! Objects of one kind in the order they were made, found by id, bounded in number.

use crate::refusal::Refusal;
use std::collections::HashMap;

/// What lies on a [`Shelf`].
pub(crate) trait Kept {
    /// As messages name it: `No such customer: …`.
    const KIND: &'static str;

    fn id(&self) -> &str;
}

pub(crate) struct Shelf<T> {
    items: Vec<T>,
    places: HashMap<String, usize>,
    most: usize,
}

impl<T: Kept> Shelf<T> {
    pub(crate) fn new(most: usize) -> Shelf<T> {
        Shelf { items: Vec::new(), places: HashMap::new(), most }
    }

    pub(crate) fn put(&mut self, item: T) -> Result<(), Refusal> {
        if self.items.len() >= self.most {
            return Err(Refusal::full(T::KIND, self.most));
        }
        self.places.insert(item.id().to_owned(), self.items.len());
        self.items.push(item);
        Ok(())
    }

    pub(crate) fn get(&self, id: &str) -> Option<&T> {
        self.places.get(id).map(|place| &self.items[*place])
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.places.get(id).map(|place| &mut self.items[*place])
    }

    /// One that a path names.
    pub(crate) fn at(&self, id: &str) -> Result<&T, Refusal> {
        self.get(id).ok_or_else(|| Refusal::not_found(T::KIND, id))
    }

    pub(crate) fn at_mut(&mut self, id: &str) -> Result<&mut T, Refusal> {
        self.get_mut(id).ok_or_else(|| Refusal::not_found(T::KIND, id))
    }

    /// One that a parameter names.
    pub(crate) fn named(&self, id: &str, param: &str) -> Result<&T, Refusal> {
        self.get(id).ok_or_else(|| Refusal::no_such(T::KIND, id, param))
    }

    pub(crate) fn oldest_first(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter()
    }

    pub(crate) fn newest_first(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items.iter().rev()
    }
}
