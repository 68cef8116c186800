//! How likely a statistic is by chance.

/// The probability that chi-square with so many degrees of freedom is at least this: the regularised upper incomplete gamma
/// function Q(freedom / 2, statistic / 2). 1 for no freedom.
pub fn chi_square_p(statistic: f64, freedom: usize) -> f64 {
    if freedom == 0 || statistic <= 0.0 {
        return 1.0;
    }
    let (a, x) = (freedom as f64 / 2.0, statistic / 2.0);
    let scale = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 { (1.0 - scale * series(a, x)).clamp(0.0, 1.0) } else { (scale * fraction(a, x)).min(1.0) }
}

/// Steps after which a sum or fraction is taken as it is; some dozens are enough.
const STEPS: usize = 10_000;

/// Σ xⁿ / (a (a+1) … (a+n))
fn series(a: f64, x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
    for _ in 0..STEPS {
        n += 1.0;
        term *= x / n;
        sum += term;
        if term < sum * 1e-16 {
            break;
        }
    }
    sum
}

/// The continued fraction 1 / (x + 1 − a − 1 (1 − a) / (x + 3 − a − …)), evaluated by Lentz's method.
fn fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / b);
    let mut value = d;
    for n in 1..STEPS {
        let n = n as f64;
        let term = n * (a - n);
        b += 2.0;
        d = term * d + b;
        d = 1.0 / if d.abs() < TINY { TINY } else { d };
        c = b + term / c;
        if c.abs() < TINY {
            c = TINY;
        }
        value *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

/// Of the halves from 1/2 on: exact steps down from where Stirling's series is exact to a float.
fn ln_gamma(mut a: f64) -> f64 {
    let mut below = 0.0;
    while a < 20.0 {
        below += a.ln();
        a += 1.0;
    }
    let (r, r2) = (1.0 / a, 1.0 / (a * a));
    let series = r * (1.0 / 12.0 - r2 * (1.0 / 360.0 - r2 * (1.0 / 1_260.0 - r2 / 1_680.0)));
    (a - 0.5) * a.ln() - a + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - below
}
