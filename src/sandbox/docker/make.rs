//! Images of the engine made, loaded and saved. What a build prints is the words of whatever it installs:
//! each line is bounded here, and made harmless by who shows it.
//!
//! A recipe begins with an image that the engine has, by its id. What is pulled is pulled by its digest,
//! which the engine holds what it gets against.

use super::DockerBackend;
use super::engine;
use super::image::Image;
use crate::sandbox::backend::SandboxError;
use bollard::models::BuildInfo;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CreateImageOptionsBuilder, ImportImageOptionsBuilder,
    RemoveImageOptions, TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

/// Longest line of a build that is handed on.
const LINE: usize = 4096;

/// Who hears what a build says, line by line.
pub type Hears<'a> = &'a mut (dyn FnMut(&str) + Send);

/// What is built.
pub struct BuildRequest<'a> {
    /// A tar archive with a `Dockerfile` at its top.
    pub context: Vec<u8>,
    /// Values of its `ARG`s.
    pub arguments: HashMap<String, String>,
    /// The engine's network that its steps have; `None` is the engine's usual one.
    pub network: Option<&'a str>,
}

impl DockerBackend {
    /// Has the engine fetch `repository@digest` from its registry, without credentials.
    pub async fn pull_image(
        &self,
        (repository, digest): (&str, &str),
        hears: Hears<'_>,
    ) -> Result<Image, SandboxError> {
        let options = CreateImageOptionsBuilder::default()
            .from_image(repository)
            .tag(digest)
            .build();
        let mut said = (self.engine.client).create_image(Some(options), None, None);
        // Bars come many times a second: each stage of a layer is told once.
        let mut told = HashSet::new();
        while let Some(info) = said.next().await {
            let info = info.map_err(|error| engine::failed("pull image", &error))?;
            let layer = info.id.unwrap_or_default();
            let line = format!("{layer} {}", info.status.unwrap_or_default());
            if told.len() < LINE && told.insert(line.clone()) {
                hears(line.trim());
            }
        }
        self.resolve_image(&format!("{repository}@{digest}")).await
    }

    /// Builds an image with the engine's own builder.
    pub async fn build_image(
        &self,
        request: BuildRequest<'_>,
        hears: Hears<'_>,
    ) -> Result<Image, SandboxError> {
        let mut options = BuildImageOptionsBuilder::default()
            .rm(true)
            .forcerm(true)
            .buildargs(&request.arguments);
        if let Some(network) = request.network {
            options = options.networkmode(network);
        }
        let body = bollard::body_full(Bytes::from(request.context));
        let said = (self.engine.client).build_image(options.build(), None, Some(body));
        let id = follow("build image", said, hears).await?;
        let id = id.ok_or_else(|| SandboxError::Engine {
            call: "build image".to_owned(),
            message: "the engine does not say what came of it".to_owned(),
            remedy: "see its log".to_owned(),
        })?;
        self.resolve_image(&id).await
    }

    /// Gives an image a name in the engine: without one it may be cleared away.
    pub async fn name_image(&self, id: &str, tag: &str) -> Result<(), SandboxError> {
        let (repo, tag) = tag.rsplit_once(':').unwrap_or((tag, "latest"));
        let options = TagImageOptionsBuilder::default()
            .repo(repo)
            .tag(tag)
            .build();
        (self.engine.client.tag_image(id, Some(options)).await)
            .map_err(|error| engine::failed("tag image", &error))
    }

    /// Loads an archive as `docker save` makes it; it holds the image of that id.
    pub async fn load_image(
        &self,
        archive: &Path,
        id: &str,
        hears: Hears<'_>,
    ) -> Result<Image, SandboxError> {
        let file = (tokio::fs::File::open(archive).await).map_err(|source| SandboxError::Io {
            context: format!("failed to open {}", archive.display()),
            source,
        })?;
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let bytes = ReaderStream::with_capacity(file, 256 * 1024);
        let said = (self.engine.client).import_image_stream(options, bytes, None);
        follow("load image", said, hears).await?;
        self.resolve_image(id).await
    }

    /// Writes an image of the engine as `docker save` does.
    pub async fn save_image(&self, id: &str, archive: &Path) -> Result<(), SandboxError> {
        let failed = |source| SandboxError::Io {
            context: format!("failed to write {}", archive.display()),
            source,
        };
        let mut file = tokio::fs::File::create_new(archive).await.map_err(failed)?;
        let mut bytes = self.engine.client.export_image(id);
        while let Some(part) = bytes.next().await {
            let part = part.map_err(|error| engine::failed("save image", &error))?;
            file.write_all(&part).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)
    }

    /// Takes a name away from an image, and the image with its last one.
    pub async fn forget_image(&self, tag: &str) -> Result<(), SandboxError> {
        match self
            .engine
            .client
            .remove_image(tag, None::<RemoveImageOptions>, None)
            .await
        {
            Err(error) if engine::status(&error) == Some(409) => Err(SandboxError::Refused {
                what: format!("removal of image {tag}"),
                why: "a container uses it".to_owned(),
                remedy: format!(
                    "remove the container first: see `docker ps -a --filter ancestor={tag}`"
                ),
            }),
            Err(error) if engine::status(&error) != Some(404) => {
                Err(engine::failed("remove image", &error))
            }
            _ => Ok(()),
        }
    }
}

/// Hands on what is said, to the end. The id of what was made, where the engine says one.
async fn follow(
    call: &str,
    said: impl Stream<Item = Result<BuildInfo, bollard::errors::Error>>,
    hears: Hears<'_>,
) -> Result<Option<String>, SandboxError> {
    let mut said = std::pin::pin!(said);
    let mut lines = Lines::default();
    let mut id = None;
    while let Some(info) = said.next().await {
        let info = info.map_err(|error| engine::failed(call, &error))?;
        if let Some(made) = info.aux.and_then(|aux| aux.id) {
            id = Some(made);
        }
        if let Some(text) = info.stream.or(info.status) {
            lines.add(&text, hears);
        }
    }
    lines.end(hears);
    Ok(id)
}

/// What comes in pieces, put together into lines.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, text: &str, hears: Hears<'_>) {
        for piece in text.split_inclusive('\n') {
            let room = LINE.saturating_sub(self.0.len());
            let whole = piece.trim_end_matches('\n');
            self.0.push_str(
                whole
                    .get(..whole.floor_char_boundary(room))
                    .unwrap_or_default(),
            );
            if piece.ends_with('\n') {
                self.end(hears);
            }
        }
    }

    fn end(&mut self, hears: Hears<'_>) {
        let line = std::mem::take(&mut self.0);
        // What a bar overwrote is not shown.
        let last = line.rsplit('\r').find(|part| !part.trim().is_empty());
        if let Some(last) = last {
            hears(plain(last).trim_end());
        }
    }
}

/// Without the colours that builders add.
fn plain(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut text, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match rest.strip_prefix('m') {
            Some(rest) => text.push_str(rest),
            // Something else, which whoever shows it makes harmless.
            None => {
                text.push_str("\u{1b}[");
                text.push_str(part);
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_bounded_and_without_what_was_overwritten() {
        let mut heard = Vec::new();
        let mut lines = Lines::default();
        let mut hears = |line: &str| heard.push(line.to_owned());
        lines.add("Step 1", &mut hears);
        lines.add("/2\u{1b}[0m\n\n 10%\r 50%\r100%\n", &mut hears);
        lines.add(&"ä".repeat(LINE), &mut hears);
        lines.end(&mut hears);
        assert_eq!(heard[..2], ["Step 1/2", "100%"]);
        assert_eq!(heard[2].len(), LINE);
        assert_eq!(heard.len(), 3);
    }
}
