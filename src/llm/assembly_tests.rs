use super::*;
use serde_json::json;

fn delta(delta: Value) -> String {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string()
}

fn finish(reason: &str) -> String {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string()
}

fn assemble(events: &[String]) -> Ending {
    let mut assembly = Assembly::default();
    for event in events {
        assembly.take(event).unwrap();
    }
    assembly.end()
}

fn calls(events: &[String]) -> Vec<(String, String, String)> {
    match assemble(events) {
        Ending::Whole(answer) => answer
            .calls
            .into_iter()
            .map(|call| (call.id.to_string(), call.name, call.arguments))
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn call(id: &str, name: &str, arguments: &str) -> (String, String, String) {
    (id.into(), name.into(), arguments.into())
}

#[test]
fn text_comes_out_as_it_streams_and_whole_at_the_end() {
    let mut assembly = Assembly::default();
    let first = assembly.take(&delta(json!({"role": "assistant", "content": "Hel"})));
    assert_eq!(first, Ok(Step::Text("Hel".into())));
    assembly.take(&delta(json!({"content": "lo"}))).unwrap();
    assembly.take(&finish("stop")).unwrap();
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}});
    assembly.take(&usage.to_string()).unwrap();
    assert_eq!(assembly.take("[DONE]"), Ok(Step::Done));
    let expected = ChatAnswer {
        text: "Hello".into(),
        calls: vec![],
        usage: Some(TokenUsage {
            input: 7,
            output: 2,
        }),
    };
    assert_eq!(assembly.end(), Ending::Whole(expected));
}

#[test]
fn interleaved_pieces_of_two_calls_find_their_call() {
    let piece = |index: u64, text: &str| {
        delta(json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]}))
    };
    let start = |index: u64, id: &str, name: &str| {
        delta(
            json!({"tool_calls": [{"index": index, "id": id, "type": "function",
            "function": {"name": name, "arguments": ""}}]}),
        )
    };
    let events = [
        start(0, "a", "write"),
        start(1, "b", "exec"),
        piece(1, "{\"command\":"),
        piece(0, "{\"path\":"),
        piece(1, "\"ls\"}"),
        piece(0, "\"x\"}"),
        finish("tool_calls"),
    ];
    assert_eq!(
        calls(&events),
        [
            call("a", "write", "{\"path\":\"x\"}"),
            call("b", "exec", "{\"command\":\"ls\"}")
        ]
    );
}

#[test]
fn calls_without_an_index_or_all_with_the_same_one_stay_apart() {
    for index in [Value::Null, json!(0)] {
        let whole = |id: &str, name: &str| {
            delta(json!({"tool_calls": [{"index": index, "id": id,
                "function": {"name": name, "arguments": "{}"}}]}))
        };
        let events = [whole("a", "read"), whole("b", "list"), finish("tool_calls")];
        assert_eq!(
            calls(&events),
            [call("a", "read", "{}"), call("b", "list", "{}")]
        );
    }
}

#[test]
fn calls_without_ids_or_with_the_same_id_get_their_own() {
    let events = [
        delta(json!({"tool_calls": [
            {"index": 0, "function": {"name": "read", "arguments": "{}"}},
            {"index": 1, "id": "x", "function": {"name": "read", "arguments": "{}"}},
            {"index": 2, "id": "x", "function": {"name": "read", "arguments": "{}"}},
        ]})),
        finish("stop"),
    ];
    let ids: BTreeSet<_> = calls(&events).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids.len(), 3);
    assert!(!ids.contains(""));
}

#[test]
fn a_name_repeated_with_each_piece_is_one_name() {
    let piece = |text: &str| {
        delta(json!({"tool_calls": [{"index": 0, "id": "a",
            "function": {"name": "exec", "arguments": text}}]}))
    };
    let events = [piece("{"), piece("}"), finish("tool_calls")];
    assert_eq!(calls(&events), [call("a", "exec", "{}")]);
}

#[test]
fn arguments_sent_as_an_object_and_content_sent_in_parts_are_understood() {
    let events = [
        delta(json!({"content": [{"type": "text", "text": "hi"}]})),
        delta(json!({"tool_calls": [{"index": 0, "id": "a",
            "function": {"name": "read", "arguments": {"path": "x"}}}]})),
        finish("tool_calls"),
    ];
    assert_eq!(calls(&events), [call("a", "read", "{\"path\":\"x\"}")]);
}

#[test]
fn arguments_that_are_no_json_are_passed_on_as_they_are() {
    let events = [
        delta(json!({"tool_calls": [{"index": 0, "id": "a",
            "function": {"name": "exec", "arguments": "{\"command\": \"ls"}}]})),
        finish("tool_calls"),
    ];
    assert_eq!(calls(&events)[0].2, "{\"command\": \"ls");
}

#[test]
fn without_a_finish_reason_the_answer_was_cut_off() {
    let text = delta(json!({"content": "half an ans"}));
    assert_eq!(assemble(std::slice::from_ref(&text)), Ending::CutOff);
    assert_eq!(
        assemble(&[text.clone(), finish("length")]),
        Ending::Stopped("length".into())
    );
}

#[test]
fn an_error_in_the_stream_and_nonsense_are_refused() {
    let mut assembly = Assembly::default();
    let error = json!({"error": {"message": "out of memory", "code": 500}}).to_string();
    assert!(matches!(assembly.take(&error), Err(Refusal::Error(_))));
    for nonsense in ["{", "<html>", "[1]", "{\"choices\": 3}"] {
        let outcome = assembly.take(nonsense);
        assert!(matches!(outcome, Err(Refusal::Nonsense(_))), "{nonsense}");
    }
}

#[test]
fn a_server_cannot_fill_memory() {
    let mut assembly = Assembly::default();
    let huge_index = delta(json!({"tool_calls": [{"index": u64::MAX, "function": {"name": "x"}}]}));
    assembly.take(&huge_index).unwrap();
    let many = (0..200).find_map(|n| {
        let one = json!({"tool_calls": [{"index": n, "function": {"name": "x"}}]});
        assembly.take(&delta(one)).err()
    });
    assert!(matches!(many, Some(Refusal::Nonsense(_))));

    let mut assembly = Assembly::default();
    let text = delta(json!({"content": "x".repeat(1 << 20)}));
    let flood = (0..10).find_map(|_| assembly.take(&text).err());
    assert!(matches!(flood, Some(Refusal::Nonsense(_))));
}
