//! Whole numbers of any size: what sums of floats are, so that no order of adding changes a bit of them.

/// A natural number, the least limb first, without zeros at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Natural(Vec<u64>);

impl From<u64> for Natural {
    fn from(value: u64) -> Self {
        let mut number = Self::default();
        number.add_shifted(value, 0);
        number
    }
}

impl Natural {
    /// Adds `value · 2^shift`.
    pub fn add_shifted(&mut self, value: u64, shift: usize) {
        if value == 0 {
            return;
        }
        let (limb, bits) = (shift / 64, shift % 64);
        let wide = u128::from(value) << bits;
        self.add_limb(limb, wide as u64);
        self.add_limb(limb + 1, (wide >> 64) as u64);
    }

    fn add_limb(&mut self, mut limb: usize, value: u64) {
        let mut carry = value;
        while carry > 0 {
            if self.0.len() <= limb {
                self.0.resize(limb + 1, 0);
            }
            let (sum, over) = self.0[limb].overflowing_add(carry);
            self.0[limb] = sum;
            carry = u64::from(over);
            limb += 1;
        }
    }

    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    pub fn product(&self, other: &Self) -> Self {
        let mut product = Self::default();
        for (place, mine) in self.0.iter().enumerate() {
            for (other_place, theirs) in other.0.iter().enumerate() {
                let wide = u128::from(*mine) * u128::from(*theirs);
                product.add_limb(place + other_place, wide as u64);
                product.add_limb(place + other_place + 1, (wide >> 64) as u64);
            }
        }
        product
    }

    /// The greater less the smaller, and whether the other was the greater.
    pub fn difference(&self, other: &Self) -> (Self, bool) {
        let negative = self.cmp_to(other).is_lt();
        let (greater, smaller) = if negative { (other, self) } else { (self, other) };
        let mut limbs = greater.0.clone();
        let mut borrow = false;
        for (place, limb) in limbs.iter_mut().enumerate() {
            let take = smaller.0.get(place).copied().unwrap_or(0);
            let (left, under) = limb.overflowing_sub(take);
            let (left, again) = left.overflowing_sub(u64::from(borrow));
            *limb = left;
            borrow = under || again;
        }
        while limbs.last() == Some(&0) {
            limbs.pop();
        }
        (Self(limbs), negative)
    }

    fn cmp_to(&self, other: &Self) -> std::cmp::Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// The number as `f · 2^e`, `f` rounded to the nearest float64 from 2^63 to 2^64; zero is 0.
    pub fn scaled(&self) -> (f64, i64) {
        let Some(top) = self.0.last() else { return (0.0, 0) };
        let lead = top.leading_zeros() as usize;
        let limb = |back: usize| self.0.len().checked_sub(back).and_then(|place| self.0.get(place)).copied();
        let next = limb(2).unwrap_or(0);
        let mut bits = if lead == 0 { *top } else { (top << lead) | (next >> (64 - lead)) };
        let rest = if lead == 0 { next } else { next << lead };
        let below = self.0.len().saturating_sub(2);
        if rest != 0 || self.0[..below].iter().any(|limb| *limb != 0) {
            // Enough to tell a half from more than a half.
            bits |= 1;
        }
        (bits as f64, (self.0.len() as i64 - 1) * 64 - lead as i64)
    }
}

/// `f · 2^e` as a float64; none where it is too great for one.
pub(super) fn unscaled(f: f64, e: i64) -> Option<f64> {
    if f == 0.0 {
        return Some(0.0);
    }
    // In two steps, so that neither power leaves the range of normal floats before the product does.
    let (half, rest) = (e / 2, e - e / 2);
    let power = |e: i64| 2f64.powi(e.clamp(-2_000, 2_000) as i32);
    let value = f * power(half) * power(rest);
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn natural(value: u128) -> Natural {
        let mut number = Natural::from(value as u64);
        number.add_shifted((value >> 64) as u64, 64);
        number
    }

    #[test]
    fn arithmetic_is_that_of_u128() {
        let some = [0, 1, 2, 3, 1 << 31, u64::MAX as u128, 1 << 64, (1 << 100) + 12_345, u128::MAX >> 1];
        for a in some {
            for b in some {
                let (difference, negative) = natural(a).difference(&natural(b));
                assert_eq!(difference, natural(a.abs_diff(b)), "{a} - {b}");
                assert_eq!(negative, a < b);
                if let Some(product) = a.checked_mul(b) {
                    assert_eq!(natural(a).product(&natural(b)), natural(product), "{a} · {b}");
                }
            }
            let (f, e) = natural(a).scaled();
            assert_eq!(unscaled(f, e), Some(a as f64), "{a}");
        }
    }

    #[test]
    fn a_half_and_a_little_more_is_rounded_up() {
        // 2^53 + 1 lies halfway between two floats; one bit far below decides.
        let mut number = Natural::default();
        number.add_shifted((1 << 53) + 1, 200);
        let (f, e) = number.scaled();
        assert_eq!(unscaled(f, e - 200), Some(9_007_199_254_740_992.0));
        number.add_shifted(1, 0);
        let (f, e) = number.scaled();
        assert_eq!(unscaled(f, e - 200), Some(9_007_199_254_740_994.0));
    }
}
