//! What can be wrong with a file, and with rows that are to be written.

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("cannot read the file: {0}")]
    Io(#[from] std::io::Error),
    /// It is not a bbolt file, or its beginning is damaged.
    #[error("not a bbolt database: {0}")]
    NotBolt(&'static str),
    /// A page contradicts the format.
    #[error("the database is damaged: page {page}: {what}")]
    Damaged {
        /// The number of the page.
        page: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Why rows cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// bbolt's keys have 1 to 32,768 bytes.
    #[error("a key of {0} bytes")]
    KeySize(usize),
    /// bbolt's values have less than 2 GiB.
    #[error("a value of {0} bytes")]
    ValueSize(usize),
    /// The keys of a bucket must rise strictly, and a name may be used once.
    #[error("a key that is not above the key before it")]
    Unsorted,
    /// A row before the first bucket.
    #[error("a row without a bucket")]
    NoBucket,
    /// The rows are not those of the plan.
    #[error("the rows differ from those that were planned")]
    Differs,
}
