//! A cell: the mergeable state of one aggregate of any kind.

use std::cmp::Ordering;

use super::arg_extreme::ArgExtreme;
use super::categories::{CountBy, SumBy};
use super::decayed::Decayed;
use super::distinct::{Distinct, DistinctCount};
use super::edge::AtEdge;
use super::extreme::Extreme;
use super::frequency::Frequencies;
use super::gaps::{Ends, Run, since};
use super::histogram::Histogram;
use super::kind::{Aggregate, Kind};
use super::moments::Moments;
use super::order::EventOrder;
use super::quantile::Sketch;
use super::rate::Rate;
use super::sum::Sum;
use super::trend::Trend;
use super::truth::Truth;
use super::variance::Variance;
use super::vector::VectorSum;
use crate::codec::{Cursor, Damaged, put_signed, put_varint};
use crate::value::{DataType, Value};

/// Why there are events but no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoValue {
    /// the exact result is beyond the type
    Overflow,
    /// infinity minus infinity, or a variance over infinity
    Undefined,
}

/// What `finish` gives: a value (null where there were no terms), or the reason for an ERROR status.
pub type Finished = Result<Value<'static>, NoValue>;

/// Mergeable intermediate state of one aggregate.
#[derive(Clone, Debug)]
enum Partial {
    Count(u64),
    Sum(Sum),
    Extreme(Extreme),
    Variance(Variance),
    Moments(Moments),
    AtEdge(AtEdge),
    Distinct(Distinct),
    DistinctCount(DistinctCount),
    Sketch(Sketch),
    Histogram(Histogram),
    Frequencies(Frequencies),
    Truth(Truth),
    ArgExtreme(ArgExtreme),
    Rate(Rate),
    Decayed(Decayed),
    CountBy(CountBy),
    SumBy(SumBy),
    Ends(Ends),
    Run(Run),
    Trend(Trend),
    VectorSum(VectorSum),
}

/// The arguments of an aggregate for one event; none of them is null (any value where there is no argument).
#[derive(Clone, Copy, Debug)]
pub struct Terms<'v, 'a> {
    /// the argument
    pub first: &'v Value<'a>,
    /// the second one
    pub second: &'v Value<'a>,
}

impl<'v, 'a> Terms<'v, 'a> {
    /// One argument.
    pub fn of(first: &'v Value<'a>) -> Self {
        Terms { first, second: first }
    }
}

/// A partial and the event time of the newest event in it: what a tile keeps of one aggregate.
#[derive(Clone, Debug)]
pub struct Cell {
    /// None while no event contributed
    pub newest: Option<i64>,
    partial: Partial,
}

impl Cell {
    /// No events yet.
    pub fn new(aggregate: &Aggregate) -> Self {
        let partial = match &aggregate.kind {
            Kind::Count | Kind::TimeSinceLast => Partial::Count(0),
            Kind::Sum | Kind::Avg => Partial::Sum(Sum::default()),
            Kind::Min => Partial::Extreme(Extreme::new(Ordering::Less)),
            Kind::Max => Partial::Extreme(Extreme::new(Ordering::Greater)),
            Kind::Variance | Kind::Stddev => Partial::Variance(Variance::default()),
            Kind::Skewness => Partial::Moments(Moments::new(3)),
            Kind::Kurtosis => Partial::Moments(Moments::new(4)),
            Kind::One(edge) | Kind::Many(edge) => Partial::AtEdge(AtEdge::new(*edge)),
            Kind::Distinct => Partial::Distinct(Distinct::new()),
            Kind::CountDistinct => Partial::DistinctCount(DistinctCount::new()),
            Kind::Quantile(_) => Partial::Sketch(Sketch::default()),
            Kind::Histogram(edges) => Partial::Histogram(Histogram::new(edges)),
            Kind::TopK(_) | Kind::BottomK(_) | Kind::Mode | Kind::Entropy => Partial::Frequencies(Frequencies::new()),
            Kind::Any | Kind::All => Partial::Truth(Truth::default()),
            Kind::ArgMax => Partial::ArgExtreme(ArgExtreme::new(Ordering::Greater)),
            Kind::ArgMin => Partial::ArgExtreme(ArgExtreme::new(Ordering::Less)),
            Kind::Rate(..) => Partial::Rate(Rate::default()),
            Kind::Decayed(_) => Partial::Decayed(Decayed::default()),
            Kind::CountBy => Partial::CountBy(CountBy::new()),
            Kind::SumBy | Kind::AvgBy => Partial::SumBy(SumBy::new()),
            Kind::MeanGap => Partial::Ends(Ends::default()),
            Kind::MaxGap => Partial::Run(Run::default()),
            Kind::Trend => Partial::Trend(Trend::default()),
            Kind::VectorSum | Kind::VectorAvg => Partial::VectorSum(VectorSum::new(dims(aggregate))),
        };
        Cell { newest: None, partial }
    }

    /// Takes an event in. Its place in the order is asked for only where it matters: most aggregates never look at it.
    #[inline]
    pub fn update<'o>(
        &mut self,
        aggregate: &Aggregate,
        time: i64,
        order: impl FnOnce() -> EventOrder<'o>,
        terms: Terms<'_, '_>,
    ) {
        self.newest = self.newest.max(Some(time));
        let value = terms.first;
        match &mut self.partial {
            Partial::Count(count) => *count += 1,
            Partial::Sum(sum) => sum.update(value),
            Partial::Extreme(extreme) => extreme.update(value),
            Partial::Variance(variance) => variance.update(value),
            Partial::AtEdge(edge) => edge.update(&order(), value),
            Partial::ArgExtreme(extreme) => extreme.update(&order(), value, terms.second),
            _ => self.update_rarer(aggregate, time, terms),
        }
    }

    fn update_rarer(&mut self, aggregate: &Aggregate, time: i64, Terms { first, second }: Terms<'_, '_>) {
        match (&mut self.partial, &aggregate.kind) {
            (Partial::Moments(moments), _) => moments.update(first),
            (Partial::Distinct(distinct), _) => distinct.update(first),
            (Partial::DistinctCount(count), _) => count.update(first),
            (Partial::Sketch(sketch), _) => sketch.update(first, aggregate.input_type()),
            (Partial::Histogram(histogram), Kind::Histogram(edges)) => {
                histogram.update(first, edges, aggregate.input_type());
            }
            (Partial::Frequencies(counts), _) => counts.update(first),
            (Partial::Truth(truth), _) => truth.update(first),
            (Partial::Rate(rate), _) => rate.update(first, second),
            (Partial::Decayed(decayed), Kind::Decayed(half_life)) => decayed.update(time, *half_life, first),
            (Partial::CountBy(counts), _) => counts.update(first),
            (Partial::SumBy(sums), _) => sums.update(first, second),
            (Partial::Ends(ends), _) => ends.update(time),
            (Partial::Run(run), _) => run.update(time),
            (Partial::Trend(trend), _) => trend.update(time, first),
            (Partial::VectorSum(sums), _) => sums.update(first),
            _ => debug_assert!(false, "a cell of another aggregate"),
        }
    }

    /// Takes in all events of another cell of the same aggregate; the two have none in common.
    pub fn merge(&mut self, other: &Cell) {
        self.newest = self.newest.max(other.newest);
        match (&mut self.partial, &other.partial) {
            (Partial::Count(a), Partial::Count(b)) => *a += b,
            (Partial::Sum(a), Partial::Sum(b)) => a.merge(b),
            (Partial::Extreme(a), Partial::Extreme(b)) => a.merge(b),
            (Partial::Variance(a), Partial::Variance(b)) => a.merge(b),
            (Partial::Moments(a), Partial::Moments(b)) => a.merge(b),
            (Partial::AtEdge(a), Partial::AtEdge(b)) => a.merge(b),
            (Partial::Distinct(a), Partial::Distinct(b)) => a.merge(b),
            (Partial::DistinctCount(a), Partial::DistinctCount(b)) => a.merge(b),
            (Partial::Sketch(a), Partial::Sketch(b)) => a.merge(b),
            (Partial::Histogram(a), Partial::Histogram(b)) => a.merge(b),
            (Partial::Frequencies(a), Partial::Frequencies(b)) => a.merge(b),
            (Partial::Truth(a), Partial::Truth(b)) => a.merge(b),
            (Partial::ArgExtreme(a), Partial::ArgExtreme(b)) => a.merge(b),
            (Partial::Rate(a), Partial::Rate(b)) => a.merge(b),
            (Partial::Decayed(a), Partial::Decayed(b)) => a.merge(b),
            (Partial::CountBy(a), Partial::CountBy(b)) => a.merge(b),
            (Partial::SumBy(a), Partial::SumBy(b)) => a.merge(b),
            (Partial::Ends(a), Partial::Ends(b)) => a.merge(b),
            (Partial::Run(a), Partial::Run(b)) => a.merge(b),
            (Partial::Trend(a), Partial::Trend(b)) => a.merge(b),
            (Partial::VectorSum(a), Partial::VectorSum(b)) => a.merge(b),
            _ => debug_assert!(false, "cells of different aggregates"),
        }
    }

    /// The value of the events so far, as seen at `time`.
    pub fn finish(&self, aggregate: &Aggregate, time: i64) -> Finished {
        let (input, second) = (aggregate.input_type(), aggregate.second_type());
        match (&self.partial, &aggregate.kind) {
            (Partial::Count(_), Kind::TimeSinceLast) => Ok(self.newest.map_or(Value::Null, |at| since(at, time))),
            (Partial::Count(count), _) => Ok(Value::Int64(i64::try_from(*count).unwrap_or(i64::MAX))),
            (Partial::Sum(sum), Kind::Avg) => sum.mean(input),
            (Partial::Sum(sum), _) => sum.total(input),
            (Partial::Extreme(extreme), _) => Ok(extreme.finish()),
            (Partial::Variance(variance), Kind::Stddev) => variance.deviation(),
            (Partial::Variance(variance), _) => variance.finish(),
            (Partial::Moments(moments), Kind::Skewness) => moments.skewness(),
            (Partial::Moments(moments), _) => moments.kurtosis(),
            (Partial::AtEdge(edge), Kind::Many(_)) => Ok(edge.finish_list()),
            (Partial::AtEdge(edge), _) => Ok(edge.finish_one()),
            (Partial::Distinct(distinct), _) => Ok(distinct.finish()),
            (Partial::DistinctCount(count), _) => Ok(count.finish()),
            (Partial::Sketch(sketch), Kind::Quantile(q)) => Ok(sketch.finish(q.get())),
            (Partial::Histogram(histogram), _) => Ok(histogram.finish()),
            (Partial::Frequencies(counts), Kind::TopK(k)) => Ok(counts.ranked(*k, true)),
            (Partial::Frequencies(counts), Kind::BottomK(k)) => Ok(counts.ranked(*k, false)),
            (Partial::Frequencies(counts), Kind::Mode) => Ok(counts.mode()),
            (Partial::Frequencies(counts), _) => Ok(counts.entropy()),
            (Partial::Truth(truth), Kind::Any) => Ok(truth.any()),
            (Partial::Truth(truth), _) => Ok(truth.all()),
            (Partial::ArgExtreme(extreme), _) => Ok(extreme.finish()),
            (Partial::Rate(rate), Kind::Rate(a, b)) => rate.finish((input, second), (*a, *b)),
            (Partial::Decayed(decayed), Kind::Decayed(half_life)) => decayed.finish(time, *half_life, input),
            (Partial::CountBy(counts), _) => Ok(counts.finish()),
            (Partial::SumBy(sums), kind) => sums.finish(input, *kind == Kind::AvgBy),
            (Partial::Ends(ends), _) => Ok(ends.mean()),
            (Partial::Run(run), _) => Ok(run.greatest()),
            (Partial::Trend(trend), _) => trend.finish(),
            (Partial::VectorSum(sums), kind) => sums.finish(*kind == Kind::VectorAvg),
            (Partial::Sketch(_) | Partial::Rate(_) | Partial::Decayed(_), _) => Err(NoValue::Undefined),
        }
    }

    /// Whether a cap left values out.
    pub fn is_capped(&self) -> bool {
        match &self.partial {
            Partial::Distinct(distinct) => distinct.is_capped(),
            Partial::Frequencies(counts) => counts.is_capped(),
            Partial::CountBy(counts) => counts.is_capped(),
            Partial::SumBy(sums) => sums.is_capped(),
            _ => false,
        }
    }

    /// Appends the canonical bytes: equal sets of events give equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Some(newest) = self.newest else {
            out.push(0);
            return;
        };
        out.push(1);
        put_signed(out, newest);
        match &self.partial {
            Partial::Count(count) => put_varint(out, *count),
            Partial::Sum(sum) => sum.encode(out),
            Partial::Extreme(extreme) => extreme.encode(out),
            Partial::Variance(variance) => variance.encode(out),
            Partial::Moments(moments) => moments.encode(out),
            Partial::AtEdge(edge) => edge.encode(out),
            Partial::Distinct(distinct) => distinct.encode(out),
            Partial::DistinctCount(count) => count.encode(out),
            Partial::Sketch(sketch) => sketch.encode(out),
            Partial::Histogram(histogram) => histogram.encode(out),
            Partial::Frequencies(counts) => counts.encode(out),
            Partial::Truth(truth) => truth.encode(out),
            Partial::ArgExtreme(extreme) => extreme.encode(out),
            Partial::Rate(rate) => rate.encode(out),
            Partial::Decayed(decayed) => decayed.encode(out),
            Partial::CountBy(counts) => counts.encode(out),
            Partial::SumBy(sums) => sums.encode(out),
            Partial::Ends(ends) => ends.encode(out),
            Partial::Run(run) => run.encode(out),
            Partial::Trend(trend) => trend.encode(out),
            Partial::VectorSum(sums) => sums.encode(out),
        }
    }

    /// Reads what `encode` wrote.
    pub fn decode(cursor: &mut Cursor<'_>, aggregate: &Aggregate) -> Result<Cell, Damaged> {
        if cursor.byte()? == 0 {
            return Ok(Cell::new(aggregate));
        }
        let newest = Some(cursor.signed()?);
        let (input, second, id_type) = (aggregate.input_type(), aggregate.second_type(), aggregate.id_type.as_ref());
        let arg_extreme = |cursor: &mut Cursor<'_>, wins| ArgExtreme::decode(cursor, wins, (input, second), id_type);
        let partial = match &aggregate.kind {
            Kind::Count | Kind::TimeSinceLast => Partial::Count(cursor.count()?),
            Kind::Sum | Kind::Avg => Partial::Sum(Sum::decode(cursor)?),
            Kind::Min => Partial::Extreme(Extreme::decode(cursor, input, Ordering::Less)?),
            Kind::Max => Partial::Extreme(Extreme::decode(cursor, input, Ordering::Greater)?),
            Kind::Variance | Kind::Stddev => Partial::Variance(Variance::decode(cursor)?),
            Kind::Skewness => Partial::Moments(Moments::decode(cursor, 3)?),
            Kind::Kurtosis => Partial::Moments(Moments::decode(cursor, 4)?),
            Kind::One(edge) | Kind::Many(edge) => Partial::AtEdge(AtEdge::decode(cursor, *edge, input, id_type)?),
            Kind::Distinct => Partial::Distinct(Distinct::decode(cursor, input)?),
            Kind::CountDistinct => Partial::DistinctCount(DistinctCount::decode(cursor, input)?),
            Kind::Quantile(_) => Partial::Sketch(Sketch::decode(cursor)?),
            Kind::Histogram(edges) => Partial::Histogram(Histogram::decode(cursor, edges)?),
            Kind::TopK(_) | Kind::BottomK(_) | Kind::Mode | Kind::Entropy => {
                Partial::Frequencies(Frequencies::decode(cursor, input)?)
            }
            Kind::Any | Kind::All => Partial::Truth(Truth::decode(cursor)?),
            Kind::ArgMax => Partial::ArgExtreme(arg_extreme(cursor, Ordering::Greater)?),
            Kind::ArgMin => Partial::ArgExtreme(arg_extreme(cursor, Ordering::Less)?),
            Kind::Rate(..) => Partial::Rate(Rate::decode(cursor)?),
            Kind::Decayed(_) => Partial::Decayed(Decayed::decode(cursor)?),
            Kind::CountBy => Partial::CountBy(CountBy::decode(cursor, input)?),
            Kind::SumBy | Kind::AvgBy => Partial::SumBy(SumBy::decode(cursor, second)?),
            Kind::MeanGap => Partial::Ends(Ends::decode(cursor)?),
            Kind::MaxGap => Partial::Run(Run::decode(cursor)?),
            Kind::Trend => Partial::Trend(Trend::decode(cursor)?),
            Kind::VectorSum | Kind::VectorAvg => Partial::VectorSum(VectorSum::decode(cursor, dims(aggregate))?),
        };
        Ok(Cell { newest, partial })
    }
}

fn dims(aggregate: &Aggregate) -> u32 {
    if let Some(DataType::Vector(dims)) = aggregate.input { dims } else { 0 }
}
