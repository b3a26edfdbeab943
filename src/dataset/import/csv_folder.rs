//! Plain or gzipped CSV files in a folder.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::now_reading;
use crate::dataset::check;
use crate::dataset::error::DatasetError;
use crate::progress::{Counted, Steps};
use crate::storage::hdf5_source::DEFLATE_LIMIT;
use crate::storage::{Fault, io_error};

/// A CSV file that is read row by row.
pub(crate) struct Table {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read>>,
    record: csv::StringRecord,
    held: bool,
}

/// `folder/name` or, if that is not there, `folder/name.gz`.
pub(crate) fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let plain = folder.join(name);
    let zipped = folder.join(format!("{name}.gz"));
    [plain, zipped].into_iter().find(|path| path.is_file())
}

impl Table {
    /// Opens `folder/name` or `folder/name.gz`.
    pub(crate) fn open(folder: &Path, name: &str, steps: &Steps) -> Result<Table, DatasetError> {
        let Some(path) = find(folder, name) else {
            return Err(Fault::new(format!("{name} or {name}.gz"), "a CSV file", "no such file")
                .advise("give the folder that holds the files of this format")
                .in_file(folder)
                .into());
        };
        let file = File::open(&path).map_err(io_error(&path, "open the file"))?;
        let length = file.metadata().map_err(io_error(&path, "open the file"))?.len();
        let zipped = path.extension().is_some_and(|extension| extension == "gz");
        now_reading(steps, &path);
        let file = Counted::new(file, steps);
        let reader: Box<dyn Read> = if zipped {
            Box::new(MultiGzDecoder::new(file).take(length.saturating_mul(DEFLATE_LIMIT)))
        } else {
            Box::new(file)
        };
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .trim(csv::Trim::All)
            .flexible(true)
            .comment(Some(b'#'))
            .buffer_capacity(1 << 16)
            .from_reader(reader);
        Ok(Table { path, reader, record: csv::StringRecord::new(), held: false })
    }

    /// Skips the first row if its first field is no number.
    pub(crate) fn skip_header(mut self) -> Result<Self, DatasetError> {
        if self.advance()? {
            self.held = self.record.get(0).is_some_and(|field| field.parse::<f64>().is_ok());
        }
        Ok(self)
    }

    fn advance(&mut self) -> Result<bool, DatasetError> {
        self.reader.read_record(&mut self.record).map_err(|error| {
            let place = error.position().map_or("a row".into(), |at| format!("line {}", at.line()));
            self.fault(
                Fault::new(place, "comma-separated values", format!("{error}"))
                    .advise("the file is cut off or damaged; get it again"),
            )
        })
    }

    /// The next row, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<&csv::StringRecord>, DatasetError> {
        let there = std::mem::take(&mut self.held) || self.advance()?;
        Ok(there.then_some(&self.record))
    }

    /// An error that names this file.
    pub(crate) fn fault(&self, fault: Fault) -> DatasetError {
        fault.in_file(&self.path).into()
    }

    /// Where the last row stands.
    pub(crate) fn place(&self) -> String {
        self.record.position().map_or("a row".into(), |at| format!("line {}", at.line()))
    }

    /// The field `column` of the last row as a number.
    pub(crate) fn field<T: std::str::FromStr>(
        &self,
        column: usize,
        expected: &str,
    ) -> Result<T, DatasetError> {
        let field = self.record.get(column);
        field.and_then(|field| field.parse().ok()).ok_or_else(|| {
            let found = field.map_or("nothing".into(), |field| {
                format!("{:?}", field.chars().take(40).collect::<String>())
            });
            self.fault(
                Fault::new(format!("{}, column {}", self.place(), column + 1), expected, found)
                    .advise("correct the file"),
            )
        })
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A matrix of finite numbers, a row a node.
pub(crate) fn read_features(mut table: Table) -> Result<ndarray::Array2<f32>, DatasetError> {
    let mut values: Vec<f32> = Vec::new();
    let (mut rows, mut columns) = (0usize, 0usize);
    while let Some(record) = table.next()? {
        let width = record.len();
        if rows == 0 {
            columns = width;
        }
        if width != columns || columns > check::MAX_FEATURES || rows >= check::MAX_NODES {
            return Err(table.fault(
                Fault::new(
                    table.place(),
                    format!("{columns} columns, as in the first row"),
                    width.to_string(),
                )
                .advise("correct the file"),
            ));
        }
        if values.try_reserve(columns).is_err() {
            return Err(table.fault(Fault::new(table.place(), "a size that fits into memory", "more")));
        }
        for column in 0..columns {
            values.push(table.field(column, "a number")?);
        }
        rows += 1;
    }
    ndarray::Array2::from_shape_vec((rows, columns), values)
        .map_err(|error| table.fault(Fault::new("the whole file", "a matrix", error.to_string())))
}

/// Node numbers, one a row.
pub(crate) fn read_nodes(mut table: Table, nodes: usize) -> Result<Vec<usize>, DatasetError> {
    let mut list = Vec::new();
    while table.next()?.is_some() {
        let node: usize = table.field(0, "a node number")?;
        if node >= nodes || list.len() >= nodes {
            return Err(table.fault(
                Fault::new(
                    table.place(),
                    format!("at most {nodes} node numbers in 0..{nodes}"),
                    node.to_string(),
                )
                .advise("correct the file"),
            ));
        }
        list.push(node);
    }
    Ok(list)
}

/// A label: a whole number of at least 0, or −1, `nan` or nothing for unknown.
pub(crate) fn label(table: &Table, column: usize) -> Result<i64, DatasetError> {
    let text: String = table.field(column, "a class number")?;
    if text.is_empty() || text.eq_ignore_ascii_case("nan") {
        return Ok(-1);
    }
    // OGB writes some labels as 3.0.
    let value: f64 = table.field(column, "a class number")?;
    let limit = check::MAX_CLASSES as f64;
    if value.fract() == 0.0 && (-1.0..limit).contains(&value) {
        return Ok(value as i64);
    }
    Err(table.fault(
        Fault::new(
            table.place(),
            "a class number, or -1, nan or nothing for unknown",
            text.chars().take(40).collect::<String>(),
        )
        .advise("number the classes from 0"),
    ))
}
