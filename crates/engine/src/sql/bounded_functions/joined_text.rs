//! `a || b || c` as one call, which sees how long its result will be.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeBinaryBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::growth::Growth;
use super::verify;

/// Null where any part is null, as `||` is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct JoinedText {
    signature: Signature,
}

impl Default for JoinedText {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// What `||` gives for these, one after another.
fn joined(types: &[DataType]) -> Result<DataType> {
    let Some((first, rest)) = types.split_first() else { return plan_err!("`||` joins two texts or more") };
    rest.iter().try_fold(first.clone(), |left, right| {
        BinaryTypeCoercer::new(&left, &Operator::StringConcat, right).get_result_type()
    })
}

impl ScalarUDFImpl for JoinedText {
    fn name(&self) -> &str {
        "||"
    }

    /// The name that the operator would have had.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let parts: Vec<String> = args.iter().map(|part| part.schema_name().to_string()).collect();
        Ok(parts.join(" || "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(vec![joined(types)?; types.len()])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        joined(types)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let gives = args.return_type().clone();
        verify("`||`", Growth::Sum.bytes(&args.args, rows)?, constant, &gives)?;
        let parts = args.args.iter().map(Part::of).collect::<Result<Vec<_>>>()?;
        let mut texts = LargeBinaryBuilder::new();
        let mut text = Vec::new();
        for row in 0..rows {
            text.clear();
            let whole =
                parts.iter().all(|part| part.at(row).map(|bytes| text.extend_from_slice(bytes)).is_some());
            texts.append_option(whole.then_some(text.as_slice()));
        }
        let texts = made(Arc::new(texts.finish()), &gives)?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&texts, 0)?)
        } else {
            ColumnarValue::Array(texts)
        })
    }
}

fn is_binary(data_type: &DataType) -> bool {
    data_type.is_binary() || matches!(data_type, DataType::FixedSizeBinary(_))
}

/// From bytes to what the operator gives.
fn made(bytes: ArrayRef, gives: &DataType) -> Result<ArrayRef> {
    match gives {
        DataType::LargeBinary => Ok(bytes),
        other if is_binary(other) => Ok(cast(&bytes, other)?),
        DataType::LargeUtf8 => Ok(cast(&bytes, &DataType::LargeUtf8)?),
        other => Ok(cast(&cast(&bytes, &DataType::LargeUtf8)?, other)?),
    }
}

/// A part of each row, as bytes.
struct Part {
    bytes: ArrayRef,
    constant: bool,
}

impl Part {
    fn of(value: &ColumnarValue) -> Result<Self> {
        let (array, constant) = match value {
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
            ColumnarValue::Array(array) => (array.clone(), false),
        };
        let array = match array.data_type() {
            DataType::LargeBinary => array,
            DataType::LargeUtf8 | DataType::Null => cast(&array, &DataType::LargeBinary)?,
            other if is_binary(other) => cast(&array, &DataType::LargeBinary)?,
            other if other.is_string() => cast(&cast(&array, &DataType::LargeUtf8)?, &DataType::LargeBinary)?,
            other => return exec_err!("`||` joins texts, and {other} is none"),
        };
        Ok(Self { bytes: array, constant })
    }

    fn at(&self, row: usize) -> Option<&[u8]> {
        let bytes = self.bytes.as_binary::<i64>();
        let row = if self.constant { 0 } else { row };
        (row < bytes.len() && bytes.is_valid(row)).then(|| bytes.value(row))
    }
}
