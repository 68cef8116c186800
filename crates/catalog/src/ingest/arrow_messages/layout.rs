//! How the columns of a record batch lie in its body: each node and buffer checked against the column that it is for.

use arrow::datatypes::{DataType, Field};
use arrow::ipc::{self, CompressionType};

use super::limits::{Limits, UNFOLDED_FLOOR, UNFOLDED_RATIO};
use super::{Refused, lz4};

/// A record batch that is being checked, column by column, in the order in which it will be decoded.
pub struct Layout<'a> {
    limits: Limits,
    body: &'a [u8],
    rows: u64,
    nodes: Vec<ipc::FieldNode>,
    buffers: Vec<ipc::Buffer>,
    variadic: Vec<i64>,
    next_node: usize,
    next_buffer: usize,
    next_variadic: usize,
    compression: Option<CompressionType>,
    /// Bytes of the body that buffers take.
    used: u64,
    /// Bytes of the buffers once decoded, as they claim.
    decoded: u64,
    /// Bytes that compressed buffers claim to unfold to.
    claimed: u64,
    /// Bytes that LZ4 buffers can really unfold to.
    bound: u64,
}

impl<'a> Layout<'a> {
    pub fn of(batch: ipc::RecordBatch<'_>, body: &'a [u8], limits: Limits) -> Result<Self, Refused> {
        let (Some(nodes), Some(buffers)) = (batch.nodes(), batch.buffers()) else {
            return refuse("a record batch has no nodes or no buffers");
        };
        let compression = match batch.compression() {
            None => None,
            Some(compression) if compression.method() != ipc::BodyCompressionMethod::BUFFER => {
                return refuse("a record batch is compressed by an unknown method");
            }
            Some(compression) => match compression.codec() {
                codec @ (CompressionType::LZ4_FRAME | CompressionType::ZSTD) => Some(codec),
                _ => return refuse("a record batch is compressed by an unknown codec; use LZ4 or ZSTD"),
            },
        };
        Ok(Self {
            limits,
            body,
            rows: length(batch.length(), limits)?,
            nodes: nodes.iter().copied().collect(),
            buffers: buffers.iter().copied().collect(),
            variadic: batch.variadicBufferCounts().into_iter().flatten().collect(),
            next_node: 0,
            next_buffer: 0,
            next_variadic: 0,
            compression,
            used: 0,
            decoded: 0,
            claimed: 0,
            bound: 0,
        })
    }

    /// A column of the schema.
    pub fn column(&mut self, field: &Field) -> Result<(), Refused> {
        let values = self.field(field)?;
        if values != self.rows {
            return Err(Refused(format!(
                "column `{}` has {values} values in a batch of {} rows",
                field.name(),
                self.rows
            )));
        }
        Ok(())
    }

    /// Rows of the batch, and bytes once decoded.
    pub fn finish(self) -> Result<(u64, u64), Refused> {
        if self.next_variadic != self.variadic.len() {
            return refuse("a record batch has more counts of text buffers than columns that need them");
        }
        let wire = self.body.len() as u64;
        let allowed = self.limits.unfolded_bytes.min(UNFOLDED_FLOOR.max(wire.saturating_mul(UNFOLDED_RATIO)));
        // A frame is told to the block, and so a little more than it really holds.
        let allowed_bound = 2 * self.limits.unfolded_bytes;
        if self.claimed > allowed || self.bound > allowed_bound {
            return Err(Refused(format!(
                "a message of {wire} bytes unfolds to {} bytes; at most {allowed} are allowed: send smaller batches, or do not compress",
                self.claimed.max(self.bound)
            )));
        }
        Ok((self.rows, self.decoded))
    }

    fn field(&mut self, field: &Field) -> Result<u64, Refused> {
        let Some(node) = self.nodes.get(self.next_node).copied() else {
            return refuse("a record batch has fewer nodes than its schema needs");
        };
        self.next_node += 1;
        let values = length(node.length(), self.limits)?;
        let nulls = length(node.null_count(), self.limits)?;
        if nulls > values {
            return refuse("a column has more nulls than values");
        }
        if field.data_type() == &DataType::Null {
            return Ok(values);
        }
        let validity = self.buffer()?;
        if nulls > 0 && validity < values.div_ceil(8) {
            return refuse("a column's validity buffer is shorter than its nulls need");
        }
        match field.data_type() {
            DataType::Utf8 | DataType::Binary => {
                self.buffer_of(4)?;
                self.buffer()?;
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                self.buffer_of(8)?;
                self.buffer()?;
            }
            DataType::Utf8View | DataType::BinaryView => {
                let count = self.variadic.get(self.next_variadic).copied();
                self.next_variadic += 1;
                // Each is met below, so that a count beyond the buffers that there are ends there.
                let Some(count) = count.and_then(|count| u64::try_from(count).ok()) else {
                    return refuse("a text column does not say of how many buffers it is");
                };
                self.buffer_of(16)?;
                for _ in 0..count {
                    self.buffer()?;
                }
            }
            DataType::List(child) => {
                self.buffer_of(4)?;
                self.field(child)?;
            }
            DataType::LargeList(child) => {
                self.buffer_of(8)?;
                self.field(child)?;
            }
            DataType::FixedSizeList(child, size) => {
                let inner = self.field(child)?;
                if u64::try_from(*size).ok().and_then(|size| size.checked_mul(values)) != Some(inner) {
                    return refuse("a list of fixed size has more or fewer elements than its length says");
                }
            }
            DataType::Struct(children) => {
                for child in children {
                    if self.field(child)? != values {
                        return refuse("the columns of a struct are not of the struct's length");
                    }
                }
            }
            DataType::Dictionary(index, _) => {
                self.buffer_of(index.primitive_width().unwrap_or(1) as u64)?;
            }
            // Numbers, times, truth values, and bytes of fixed size.
            _ => {
                self.buffer()?;
            }
        }
        Ok(values)
    }

    /// The next buffer, of offsets, views or indices: the decoder takes it for a list of numbers of that width, and stops the
    /// process where a part of one is left over.
    fn buffer_of(&mut self, width: u64) -> Result<(), Refused> {
        if self.buffer()? % width != 0 {
            return refuse("a buffer of offsets, views or indices does not hold a whole number of them");
        }
        Ok(())
    }

    /// The next buffer's length once decoded.
    fn buffer(&mut self) -> Result<u64, Refused> {
        let Some(buffer) = self.buffers.get(self.next_buffer).copied() else {
            return refuse("a record batch has fewer buffers than its schema needs");
        };
        self.next_buffer += 1;
        let bytes = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(offset, length)| self.body.get(offset..offset.checked_add(length)?));
        let Some(bytes) = bytes else { return refuse("a buffer lies outside the message's body") };
        self.used += bytes.len() as u64;
        if self.used > self.body.len() as u64 {
            return refuse("the buffers of a message overlap");
        }
        let decoded = match self.compression {
            Some(codec) if !bytes.is_empty() => self.compressed(codec, bytes)?,
            _ => bytes.len() as u64,
        };
        self.decoded += decoded;
        Ok(decoded)
    }

    /// A compressed buffer begins with the length that it unfolds to; −1 says that it is not compressed.
    fn compressed(&mut self, codec: CompressionType, bytes: &[u8]) -> Result<u64, Refused> {
        let Some((claim, rest)) = bytes.split_first_chunk::<8>() else {
            return refuse("a compressed buffer is shorter than its own length");
        };
        let claim = match i64::from_le_bytes(*claim) {
            -1 => return Ok(rest.len() as u64),
            0 => return Ok(0),
            claim => u64::try_from(claim)
                .map_err(|_| Refused("a compressed buffer claims a negative length".to_owned()))?,
        };
        self.claimed = self.claimed.saturating_add(claim);
        if codec == CompressionType::LZ4_FRAME {
            self.bound = self.bound.saturating_add(lz4::bound(rest)?);
        }
        let most = self.limits.unfolded_bytes;
        if self.claimed > most {
            return Err(Refused(format!(
                "a message unfolds to {} bytes; at most {most} are allowed: send smaller batches",
                self.claimed
            )));
        }
        Ok(claim)
    }
}

fn length(length: i64, limits: Limits) -> Result<u64, Refused> {
    match u64::try_from(length) {
        Ok(length) if length <= limits.rows => Ok(length),
        _ => Err(Refused(format!(
            "a message states a length of {length}; batches have at most {} rows",
            limits.rows
        ))),
    }
}

fn refuse<T>(why: &str) -> Result<T, Refused> {
    Err(Refused(why.to_owned()))
}
