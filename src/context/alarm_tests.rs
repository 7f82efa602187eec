use super::*;
use crate::protocol::alarm::Free;
use proptest::prelude::*;

const RULES: WatchRules = WatchRules {
    loss: Reaction::Tell,
    memory: Reaction::Tell,
    disk: Reaction::Tell,
    silence_ms: Some(60_000),
    on_silence: Reaction::Stop,
    gpu_idle_ms: Some(30_000),
    on_gpu_idle: Reaction::Tell,
};

const QUIET: Moment<'_> = Moment {
    at_ms: 0,
    output_ms: 0,
    bad_loss: None,
    pulse: Pulse {
        memory: None,
        workspace: None,
        files: None,
        free: None,
    },
    gpus: &[],
};

fn told(alarms: &mut Alarms, moment: &Moment<'_>) -> Vec<(AlarmKind, bool)> {
    alarms
        .look(moment)
        .into_iter()
        .map(|alarm| (alarm.kind, alarm.stop))
        .collect()
}

fn level(used: u64, most: u64) -> Option<Level> {
    Some(Level { used, most })
}

fn gpu(busy: u32) -> GpuSample {
    GpuSample {
        index: 0,
        busy,
        memory: 0,
        memory_total: 0,
    }
}

#[test]
fn silence_is_told_when_it_is_long_enough_and_again_after_output() {
    let mut alarms = Alarms::new(RULES);
    let at = |at_ms, output_ms| Moment {
        at_ms,
        output_ms,
        ..QUIET
    };
    let silent = [(AlarmKind::Silence, true)];
    assert_eq!(told(&mut alarms, &at(59_999, 0)), []);
    assert_eq!(told(&mut alarms, &at(60_000, 0)), silent);
    assert_eq!(told(&mut alarms, &at(61_000, 0)), []);
    assert_eq!(told(&mut alarms, &at(90_000, 89_000)), []);
    assert_eq!(told(&mut alarms, &at(149_000, 89_000)), silent);
}

#[test]
fn idle_gpus_are_told_once_all_of_them_were_idle_for_long_enough() {
    let mut alarms = Alarms::new(RULES);
    let mut at = |at_ms, busy: &[u32]| {
        let gpus: Vec<GpuSample> = busy.iter().copied().map(gpu).collect();
        told(
            &mut alarms,
            &Moment {
                at_ms,
                output_ms: at_ms,
                gpus: &gpus,
                ..QUIET
            },
        )
    };
    assert_eq!(at(0, &[0, 0]), []);
    assert_eq!(at(29_000, &[1, 0]), []);
    // One that computes is enough; where nothing is known, nothing changes.
    assert_eq!(at(29_500, &[0, 90]), []);
    assert_eq!(at(30_000, &[0, 0]), []);
    assert_eq!(at(59_999, &[]), []);
    assert_eq!(at(60_000, &[0, 0]), [(AlarmKind::GpuIdle, false)]);
    assert_eq!(at(61_000, &[0, 0]), []);
    assert_eq!(at(62_000, &[50, 0]), []);
    assert_eq!(at(63_000, &[0, 0]), []);
    assert_eq!(at(93_000, &[0, 0]), [(AlarmKind::GpuIdle, false)]);
}

#[test]
fn without_samples_no_gpu_is_called_idle() {
    let mut alarms = Alarms::new(RULES);
    for at_ms in [0, 1 << 40] {
        let moment = Moment {
            at_ms,
            output_ms: at_ms,
            ..QUIET
        };
        assert_eq!(told(&mut alarms, &moment), []);
    }
}

#[test]
fn nine_tenths_of_a_limit_are_told_once() {
    let mut alarms = Alarms::new(RULES);
    let mut with = |pulse| told(&mut alarms, &Moment { pulse, ..QUIET });
    let memory = |used| Pulse {
        memory: level(used, 1000),
        ..Pulse::default()
    };
    assert_eq!(with(memory(899)), []);
    assert_eq!(with(memory(900)), [(AlarmKind::Memory, false)]);
    assert_eq!(with(memory(100)), []);
    assert_eq!(with(memory(950)), []);
    let files = Pulse {
        workspace: level(1, 1000),
        files: level(95, 100),
        ..Pulse::default()
    };
    assert_eq!(with(files), [(AlarmKind::Disk, false)]);
}

#[test]
fn a_disk_that_comes_near_its_floor_is_told_and_one_that_began_full_is_not() {
    let near = |bytes, floor| {
        let free = Some(Free { bytes, floor });
        disk(&Pulse {
            free,
            ..Pulse::default()
        })
    };
    assert_eq!(near(100 << 30, 512 << 20), None);
    assert!(near(600 << 20, 512 << 20).is_some());
    // Half of what there was is the floor there.
    assert_eq!(near(1000, 500), None);
}

#[test]
fn a_bad_loss_is_told_with_its_line_and_stops_where_the_policy_says_so() {
    let moment = Moment {
        bad_loss: Some("epoch 3 loss: nan"),
        ..QUIET
    };
    let mut alarms = Alarms::new(RULES);
    let first = alarms.look(&moment);
    assert_eq!(
        first[0].text,
        "the loss is NaN or infinite: epoch 3 loss: nan"
    );
    assert!(!first[0].stop);
    assert!(alarms.look(&moment).is_empty());
    let rules = WatchRules {
        loss: Reaction::Stop,
        ..RULES
    };
    assert!(Alarms::new(rules).look(&moment)[0].stop);
    assert!(Alarms::new(WatchRules::NONE).look(&moment).is_empty());
}

proptest! {
    #[test]
    fn whatever_happens_the_alarms_of_a_step_are_few(
        moments in prop::collection::vec((0u64..1 << 40, 0u64..1 << 40, any::<bool>(), 0u64..200, prop::collection::vec(0u32..100, 0..3)), 0..200),
    ) {
        let mut alarms = Alarms::new(RULES);
        let mut count = 0;
        for (at_ms, output_ms, bad, used, busy) in moments {
            let gpus: Vec<GpuSample> = busy.into_iter().map(gpu).collect();
            let moment = Moment {
                at_ms,
                output_ms,
                bad_loss: bad.then_some("loss: nan"),
                pulse: Pulse { memory: level(used, 100), workspace: level(used, 150), files: None, free: None },
                gpus: &gpus,
            };
            count += alarms.look(&moment).len();
        }
        prop_assert!(count <= 5 * MOST);
    }
}
