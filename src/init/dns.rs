//! Questions for names, and answers to them: the few bytes of DNS that clients of a loopback need.
//!
//! One question with one answer, [RFC 1035](https://www.rfc-editor.org/rfc/rfc1035); what is written
//! in another way is not answered.

use std::net::Ipv4Addr;

/// Longest question that is read, and longest answer.
pub const MAX_MESSAGE: usize = 512;

/// A name that is up may be down with the next approval: clients ask again soon.
const TTL: u32 = 5;

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Lower case, without a dot at the end; bytes that no host name has make it empty.
    pub name: String,
    pub kind: Kind,
    /// Where the question ends in the message.
    end: usize,
}

/// Which record is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    A,
    /// There are no others: an address of version 6 leads nowhere.
    Other,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Address(Ipv4Addr),
    /// The name exists, without such a record. Never "no such name": some resolvers take that for the
    /// name as a whole.
    Nothing,
    NoSuchName,
    /// It cannot be said now.
    Failed,
}

/// The question in a message, if there is exactly one and nothing strange about it.
pub fn parse(message: &[u8]) -> Option<Question> {
    let head = message.get(..HEADER)?;
    let is_query = head[2] & 0xf8 == 0;
    let one_question = head[4..6] == [0, 1] && head[6..10] == [0, 0, 0, 0];
    if !is_query || !one_question || message.len() > MAX_MESSAGE {
        return None;
    }
    let mut at = HEADER;
    let mut name = String::new();
    let mut plain = true;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // No pointers: there is nothing before a question to point to.
        let label = message.get(at..at + length).filter(|_| length <= 63)?;
        at += length;
        plain &= label
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
        if plain {
            if !name.is_empty() {
                name.push('.');
            }
            name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        }
    }
    let rest = message.get(at..at + 4)?;
    let kind = u16::from_be_bytes([rest[0], rest[1]]);
    let class = u16::from_be_bytes([rest[2], rest[3]]);
    if !plain || name.len() > 253 {
        name.clear();
    }
    (class == CLASS_IN).then_some(Question {
        name,
        kind: match kind {
            TYPE_A => Kind::A,
            _ => Kind::Other,
        },
        end: at + 4,
    })
}

/// The answer to a message whose question this is. Nothing is said about what else the message held.
pub fn answer(message: &[u8], question: &Question, answer: Answer) -> Vec<u8> {
    let code = match answer {
        Answer::Address(_) | Answer::Nothing => 0,
        Answer::NoSuchName => 3,
        Answer::Failed => 2,
    };
    let mut out = message[..question.end].to_vec();
    // A response, recursion as it was asked for and had.
    out[2] = 0x80 | (message[2] & 0x01);
    out[3] = 0x80 | code;
    let answers = u8::from(matches!(answer, Answer::Address(_)));
    out[6..HEADER].copy_from_slice(&[0, answers, 0, 0, 0, 0]);
    if let Answer::Address(address) = answer {
        out.extend([0xc0, HEADER as u8]);
        out.extend(TYPE_A.to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        out.extend(TTL.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.bytes());
        }
        out.push(0);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out
    }

    #[test]
    fn a_question_is_read_in_lower_case() {
        let question = parse(&query("PyPI.org", 1)).unwrap();
        assert_eq!((question.name.as_str(), question.kind), ("pypi.org", Kind::A));
        assert_eq!(parse(&query("pypi.org", 28)).unwrap().kind, Kind::Other);
    }

    #[test]
    fn an_answer_repeats_the_question_and_nothing_else() {
        let mut asked = query("pypi.org", 1);
        let length = asked.len();
        // An extension, as glibc and Go send it.
        asked[11] = 1;
        asked.extend([0, 0, 41, 4, 0xb0, 0, 0, 0, 0, 0, 0]);
        let question = parse(&asked).unwrap();
        let said = answer(&asked, &question, Answer::Address(Ipv4Addr::new(127, 100, 0, 1)));
        assert_eq!(said[..2], [0xab, 0xcd]);
        assert_eq!(said[3] & 0x0f, 0);
        assert_eq!(said[6..12], [0, 1, 0, 0, 0, 0]);
        assert_eq!(said.len(), length + 16);
        assert_eq!(said[said.len() - 4..], [127, 100, 0, 1]);
        let none = answer(&asked, &question, Answer::NoSuchName);
        assert_eq!((none[3] & 0x0f, none.len()), (3, length));
    }

    #[test]
    fn strange_messages_get_no_answer() {
        let good = query("pypi.org", 1);
        let mut response = good.clone();
        response[2] |= 0x80;
        let mut two = good.clone();
        two[5] = 2;
        let mut pointer = good.clone();
        pointer[12] = 0xc0;
        for bad in [&response[..], &two, &pointer, &good[..good.len() - 1], &[], &[0; 600]] {
            assert_eq!(parse(bad), None);
        }
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length]), None);
        }
    }

    #[test]
    fn bytes_that_no_host_name_has_make_a_name_that_nobody_lists() {
        for name in ["a b", "é", "a/b"] {
            assert_eq!(parse(&query(name, 1)).unwrap().name, "");
        }
    }
}
