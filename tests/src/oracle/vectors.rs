//! Element-wise sums and means of float32 vectors: exact, rounded once to float32.

use super::model::Datum;
use super::number::{self, NotANumber, Outcome};

pub fn sum(vectors: &[Datum]) -> Outcome {
    element_wise(vectors, 1)
}

pub fn average(vectors: &[Datum]) -> Outcome {
    element_wise(vectors, vectors.len())
}

/// The sum of each element over `parts`.
fn element_wise(vectors: &[Datum], parts: usize) -> Outcome {
    let vectors: Vec<&Vec<f32>> = vectors.iter().map(elements).collect();
    let mut result = Vec::new();
    for index in 0..vectors[0].len() {
        let column: Vec<Datum> = vectors.iter().map(|vector| Datum::Float(f64::from(vector[index]))).collect();
        result.push(match number::infinity_among(&column)? {
            Some(infinity) => infinity as f32,
            None => number::to_f32(&(number::total(&column) / number::count(parts))).ok_or(NotANumber)?,
        });
    }
    Ok(Datum::Vector(result))
}

fn elements(vector: &Datum) -> &Vec<f32> {
    match vector {
        Datum::Vector(elements) => elements,
        other => panic!("ill-typed: {other:?} is not a vector"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: Outcome, expected: Option<&[f32]>) {
        match (&found, expected) {
            (Ok(value), Some(expected)) => assert!(value.same(&Datum::Vector(expected.to_vec())), "{value:?}"),
            (Err(NotANumber), None) => {}
            _ => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn each_element_is_rounded_once() {
        let vectors = |rows: &[[f32; 2]]| rows.iter().map(|row| Datum::Vector(row.to_vec())).collect::<Vec<_>>();
        let tenths = vectors(&[[0.1, 16_777_216.0]; 10]);
        check(sum(&tenths), Some(&[1.0, 167_772_160.0]));
        check(average(&tenths), Some(&[0.1, 16_777_216.0]));
        check(sum(&vectors(&[[1e38, 1.0], [3e38, 1.0], [-3e38, 1.0]])), Some(&[1e38, 3.0]));
        check(sum(&vectors(&[[1e38, 1.0], [3e38, 1.0]])), None);
        check(average(&vectors(&[[f32::MAX, 1e-45], [f32::MAX, 0.0]])), Some(&[f32::MAX, 0.0]));
        check(sum(&vectors(&[[f32::INFINITY, 1.0], [0.0, 1.0]])), Some(&[f32::INFINITY, 2.0]));
        check(sum(&vectors(&[[f32::INFINITY, 1.0], [f32::NEG_INFINITY, 1.0]])), None);
    }
}
