use super::*;
use proptest::prelude::*;

fn call(id: &str) -> ToolCall {
    ToolCall {
        id: CallId::new(id),
        name: "exec".into(),
        arguments: "{}".into(),
    }
}

fn answer(id: &str) -> ToolAnswer {
    ToolAnswer {
        id: CallId::new(id),
        name: "exec".into(),
        text: format!("answer to {id}"),
        ok: true,
    }
}

#[test]
fn the_model_is_not_asked_while_a_call_is_open() {
    let mut history = History::new("system", 0);
    history.user("task").unwrap();
    history
        .assistant(String::new(), vec![call("a"), call("b")])
        .unwrap();
    history.answer(answer("a")).unwrap();
    assert_eq!(history.view(), Err(HistoryError::Open { open: 1 }));
    assert_eq!(history.user("more"), Err(HistoryError::Open { open: 1 }));
    history.answer(answer("b")).unwrap();
    assert_eq!(history.view().unwrap().len(), 5);
}

#[test]
fn an_answer_without_a_call_or_a_second_answer_is_refused() {
    let mut history = History::new("system", 0);
    let nobody = HistoryError::NoSuchCall {
        id: CallId::new("a"),
    };
    assert_eq!(history.answer(answer("a")), Err(nobody.clone()));
    history
        .assistant(String::new(), vec![call("a"), call("b")])
        .unwrap();
    history.answer(answer("a")).unwrap();
    assert_eq!(history.answer(answer("a")), Err(nobody));
}

#[test]
fn two_calls_of_one_name_in_one_answer_are_refused() {
    let mut history = History::new("system", 0);
    let calls = vec![call("a"), call("a")];
    assert!(history.assistant(String::new(), calls).is_err());
    assert_eq!(history.view().unwrap().len(), 1, "unchanged");
}

#[test]
fn an_interrupt_answers_every_open_call() {
    let mut history = History::new("system", 0);
    history
        .assistant("…".into(), vec![call("a"), call("b"), call("c")])
        .unwrap();
    history.answer(answer("b")).unwrap();
    let made = history.answer_open("interrupted");
    assert_eq!(
        made.iter().map(|a| a.id.as_str()).collect::<Vec<_>>(),
        ["a", "c"]
    );
    let texts: Vec<_> = history.view().unwrap()[2..]
        .iter()
        .map(|message| match message {
            Message::Tool(answer) => answer.text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, ["interrupted", "answer to b", "interrupted"]);
}

#[test]
fn the_estimate_follows_what_the_server_counts() {
    let mut history = History::new("x".repeat(2984), 1000);
    assert_eq!(history.tokens(), 1334, "4000 bytes at three a token");
    history.counted(TokenUsage {
        input: 1000,
        output: 5,
    });
    assert_eq!(history.tokens(), 1000);
    history.user("y".repeat(384)).unwrap();
    assert_eq!(history.tokens(), 1100, "400 bytes at four a token");
}

#[test]
fn a_count_that_cannot_be_is_ignored() {
    let mut history = History::new("x".repeat(3000), 0);
    let before = history.tokens();
    for input in [0, 1, 10_000_000] {
        history.counted(TokenUsage { input, output: 0 });
        assert_eq!(history.tokens(), before);
    }
}

#[derive(Debug, Clone)]
enum Op {
    User,
    Assistant(Vec<u8>),
    Answer(u8),
    AnswerOpen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        Just(Op::User),
        proptest::collection::vec(0..5_u8, 0..4).prop_map(Op::Assistant),
        (0..5_u8).prop_map(Op::Answer),
        Just(Op::AnswerOpen),
    ]
}

proptest! {
    /// Whatever is tried, what the model may see is: each assistant's calls, then exactly their answers.
    #[test]
    fn no_sequence_of_operations_breaks_the_pairing(ops in proptest::collection::vec(op(), 0..40)) {
        let mut history = History::new("system", 0);
        for op in ops {
            let _ = match op {
                Op::User => history.user("u"),
                Op::Assistant(ids) => history.assistant(String::new(), ids.iter().map(|id| call(&id.to_string())).collect()),
                Op::Answer(id) => history.answer(answer(&id.to_string())),
                Op::AnswerOpen => {
                    history.answer_open("interrupted");
                    Ok(())
                }
            };
            let Ok(view) = history.view() else { continue };
            let first_is_system = matches!(view[0], Message::System { .. });
            prop_assert!(first_is_system);
            let mut expected: Vec<&CallId> = Vec::new();
            for message in &view[1..] {
                match message {
                    Message::Tool(answer) => {
                        prop_assert!(!expected.is_empty());
                        prop_assert_eq!(&answer.id, expected.remove(0));
                    }
                    other => {
                        prop_assert!(expected.is_empty());
                        if let Message::Assistant { calls, .. } = other {
                            expected = calls.iter().map(|call| &call.id).collect();
                        }
                    }
                }
            }
            prop_assert!(expected.is_empty());
        }
    }
}
