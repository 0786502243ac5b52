//! A histogram of plain numbers; its bounds are with its user.

use prometheus::proto;

/// Counts by bucket, the one above all bounds left to `count`.
#[derive(Clone, Debug)]
pub(super) struct Histogram<const N: usize> {
    buckets: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { buckets: [0; N], count: 0, sum: 0.0 }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts a value; one that is negative or no number counts as zero, so that the sum never falls.
    pub(super) fn observe(&mut self, bounds: &[f64; N], value: f64) {
        let value = if value > 0.0 { value } else { 0.0 };
        let at = bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += value;
    }

    pub(super) fn to_proto(&self, bounds: &[f64]) -> proto::Histogram {
        let mut below = 0;
        let buckets = bounds.iter().zip(&self.buckets).map(|(bound, count)| {
            below += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.count);
        histogram.set_sample_sum(self.sum);
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn bounds_are_inclusive_and_cumulative() {
        let bounds = [1.0, 2.0];
        let mut histogram = Histogram::<2>::default();
        for value in [0.5, 1.0, 1.5, 9.0, -3.0, f64::NAN] {
            histogram.observe(&bounds, value);
        }
        let proto = histogram.to_proto(&bounds);
        let counts: Vec<u64> = proto.get_bucket().iter().map(|bucket| bucket.cumulative_count()).collect();
        assert_eq!((counts, proto.get_sample_count(), proto.get_sample_sum()), (vec![4, 5], 6, 12.0));
    }
}
