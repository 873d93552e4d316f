//! How long a login takes does not tell whether there is such an account.

use std::time::{Duration, Instant};

use super::people::{Place, options};

const SAMPLES: usize = 60;

/// The share of pairs in which the one took longer: 0.5 when both come from the same distribution, whatever it is.
fn share_longer(one: &[Duration], other: &[Duration]) -> f64 {
    let longer = one.iter().flat_map(|a| other.iter().map(move |b| u32::from(a > b))).sum::<u32>();
    f64::from(longer) / (one.len() * other.len()) as f64
}

#[tokio::test]
async fn unknown_names_take_as_long() {
    let options = options()
        .set("INKPOOL_AUTH__TRIES_PER_ACCOUNT", 1000)
        .set("INKPOOL_AUTH__TRIES_PER_ADDRESS", 1000)
        // Enough for a hash to be most of the time that a login takes.
        .set("INKPOOL_AUTH__ARGON2_MEMORY_KIB", 4096);
    let place = Place::start(&options).await;
    place.register("known").await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for round in 0..SAMPLES {
        // In turns, and in either order, so that whatever else the machine does falls on both.
        let both = [("known", true), ("nobody", false)];
        for (name, is_known) in if round % 2 == 0 { both } else { [both[1], both[0]] } {
            let began = Instant::now();
            place.try_log_in(name, "not the password").await.assert_problem(401, "wrong_login");
            if is_known { &mut known } else { &mut unknown }.push(began.elapsed());
        }
    }
    // The standard deviation of the share is 0.053 when they are the same; without the hash for nobody it is above 0.99.
    let share = share_longer(&known, &unknown);
    assert!((0.25..=0.75).contains(&share), "known names take longer in {share} of all pairs");
}

#[test]
fn the_measure_tells_different_distributions_apart() {
    let around = |base: u64| (0..SAMPLES as u64).map(|n| Duration::from_millis(base + n % 10)).collect::<Vec<_>>();
    assert!((share_longer(&around(30), &around(30)) - 0.45).abs() < 0.06);
    assert!(share_longer(&around(30), &around(5)) > 0.99);
}
