use super::*;
use proptest::prelude::*;

fn heard(text: &str) -> Listener {
    let mut listener = Listener::default();
    listener.hear(text.as_bytes());
    listener.finish();
    listener
}

/// As the loggers of the field write it.
const BAD: [&str; 22] = [
    "loss: nan",
    "loss=nan",
    "loss = NaN",
    "Loss: -inf\n",
    "train_loss=inf, lr=1e-3",
    "val/loss: Infinity",
    "{\"epoch\": 3, \"loss\": NaN, \"lr\": 0.1}",
    "{'loss': nan, 'grad_norm': nan, 'epoch': 0.01}",
    "Epoch 2: 100%|##########| 8/8 [00:01<00:00, 7.9it/s, loss=nan, v_num=0]",
    "100%|##| 8/8 [00:01<00:00, 7.9it/s, train_loss=nan.0]\r",
    "8/8 - 1s - loss: nan - accuracy: 0.0980 - val_loss: 0.7\n",
    "Loss is nan, stopping training",
    "step 100 | loss nan | grad 3.1",
    "step 100 loss\tnan",
    "| loss | nan |",
    "loss: tensor(nan, device='cuda:0', grad_fn=<NllLossBackward0>)",
    "loss: tensor([nan, 0.5])",
    "loss = np.float32(nan)",
    "loss: [inf]",
    "losses: [nan, nan]",
    "best_acc=0.1, loss=inf",
    "total_loss.item() = nan",
];

const FINE: [&str; 17] = [
    "loss: 0.3",
    "loss: info about it",
    "loss: nano",
    "loss: information",
    "best_loss: inf",
    "Best val loss: inf",
    "Epoch 1: val_loss improved from inf to 0.69315, saving model",
    "loss_scale: inf",
    "loss scale nan_policy",
    "    loss = float('nan')",
    "if math.isnan(loss):",
    "loss",
    "loss:\nnan",
    "lossnan",
    "the nan loss",
    "glossary: nan_words",
    "logging_nan_inf_filter=True loss=1",
];

#[test]
fn a_loss_that_is_no_number_is_heard() {
    for line in BAD {
        assert!(heard(line).bad_loss().is_some(), "{line}");
    }
}

#[test]
fn what_only_looks_like_a_bad_loss_is_let_go() {
    for line in FINE {
        assert_eq!(heard(line).bad_loss(), None, "{line}");
    }
}

#[test]
fn the_line_is_quoted_without_what_is_not_printable() {
    let listener = heard("before\nepoch 3 \u{1b}[31mloss: nan\u{1b}[0m\nafter\n");
    let quoted = listener.bad_loss().unwrap();
    assert!(quoted.contains("epoch 3"), "{quoted}");
    assert!(quoted.contains("loss: nan"), "{quoted}");
    assert!(
        !quoted.contains("before") && !quoted.contains("after"),
        "{quoted}"
    );
    assert!(!quoted.contains('\u{1b}'), "{quoted}");
    let long = format!("{} loss: nan {}", "x".repeat(5000), "y".repeat(5000));
    let listener = heard(&long);
    let quoted = listener.bad_loss().unwrap();
    assert!(
        quoted.contains("loss: nan") && quoted.chars().count() <= QUOTED,
        "{quoted}"
    );
}

#[test]
fn a_value_that_has_not_come_yet_is_waited_for() {
    let mut listener = Listener::default();
    listener.hear(b"loss: inf");
    assert_eq!(listener.bad_loss(), None);
    listener.hear(b"ormation\n");
    assert_eq!(listener.bad_loss(), None);
    listener.hear(b"loss: na");
    listener.hear(b"n\n");
    assert!(listener.bad_loss().is_some());
}

#[test]
fn limits_are_heard_as_programs_name_them() {
    for (line, complaint) in [
        (
            "OSError: [Errno 24] Too many open files: 'a'",
            Complaint::OpenFiles,
        ),
        ("RuntimeError: can't start new thread", Complaint::Pids),
        ("sh: 1: Cannot fork", Complaint::Pids),
        ("OSError: [Errno 27] File too large", Complaint::FileSize),
        (
            "OSError: [Errno 28] No space left on device",
            Complaint::Space,
        ),
        (
            "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory.",
            Complaint::Shm,
        ),
    ] {
        let listener = heard(line);
        assert_eq!(
            listener.complaints().iter().collect::<Vec<_>>(),
            [&complaint],
            "{line}"
        );
    }
    assert!(heard("epoch 1 loss 0.3").complaints().is_empty());
}

proptest! {
    #[test]
    fn pieces_say_what_the_whole_says(
        lines in prop::collection::vec(prop::sample::select([&BAD[..], &FINE[..], &["No space left on device", "é", ""]].concat()), 0..6),
        cuts in prop::collection::vec(0usize..400, 0..8),
    ) {
        let text = lines.join("\n");
        let whole = heard(&text);
        let mut listener = Listener::default();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            listener.hear(&text.as_bytes()[from..cut]);
            from = cut;
        }
        listener.finish();
        prop_assert_eq!(listener.complaints(), whole.complaints());
        prop_assert_eq!(listener.bad_loss().is_some(), whole.bad_loss().is_some());
    }

    #[test]
    fn any_bytes_are_heard_in_bounded_memory(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let mut listener = Listener::default();
        for piece in &pieces {
            listener.hear(piece);
            prop_assert!(listener.window.len() <= KEPT);
        }
        listener.finish();
    }
}
