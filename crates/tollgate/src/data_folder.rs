//! The folder that `dev` and `init` make: database, secrets and keys, readable by their owner only.

use kernel::random;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

pub const SECRETS: &str = "secrets";
pub const SERVICE_KEY: &str = "service-key";
pub const DATABASE: &str = "tollgate.db";

#[derive(Debug, Clone)]
pub struct DataFolder {
    path: PathBuf,
}

impl DataFolder {
    /// Makes the folder if it is not there; the flag tells that it was made. An existing one keeps its rights, which
    /// `doctor` judges.
    pub fn open(path: &Path) -> io::Result<(DataFolder, bool)> {
        let made = !path.is_dir();
        if made {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        Ok((DataFolder { path: path.to_owned() }, made))
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file's text; `None` when it is not there.
    pub fn read(&self, name: &str) -> io::Result<Option<String>> {
        match std::fs::read_to_string(self.file(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        write_private(&self.file(name), text)
    }

    /// Makes the secrets file with one new secret if there is none; the flag tells that it was made.
    pub fn ensure_secrets(&self) -> io::Result<bool> {
        if self.read(SECRETS)?.is_some_and(|text| !text.trim().is_empty()) {
            return Ok(false);
        }
        self.write(SECRETS, &format!("{SECRETS_REMARK}{}\n", new_secret()))?;
        Ok(true)
    }
}

const SECRETS_REMARK: &str =
    "# Tollgate's secrets, one a line: the first signs, all verify. Change with `tollgate secrets rotate`.\n";

/// 43 letters and digits hold 256 bits.
pub fn new_secret() -> String {
    random::alphanumeric(&mut random::secure(), 43)
}

/// Replaces a file as a whole, readable by its owner only: a crash leaves the old one or the new one.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// Who else may read it: the rights of group and others, as in `0644`. `None` when nobody or when it is not there.
pub fn rights_of_others(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// The text of a secrets file with another secret in front; remarks stay.
pub fn with_new_first(text: &str, secret: &str) -> String {
    let remarks = text.lines().take_while(|line| line.trim_start().starts_with('#')).count();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.insert(remarks, secret);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_and_its_secrets_are_the_owners_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let (folder, made) = DataFolder::open(&path).unwrap();
        assert!(made && folder.ensure_secrets().unwrap());
        let secrets = folder.read(SECRETS).unwrap().unwrap();
        assert!(!folder.ensure_secrets().unwrap());
        assert_eq!(folder.read(SECRETS).unwrap().unwrap(), secrets);
        assert_eq!(rights_of_others(&path), None);
        assert_eq!(rights_of_others(&folder.file(SECRETS)), None);
        assert!(!DataFolder::open(&path).unwrap().1);
    }

    #[test]
    fn a_new_secret_comes_first_and_the_old_ones_stay() {
        assert_eq!(with_new_first("# remark\nold\nolder\n", "new"), "# remark\nnew\nold\nolder\n");
        assert_eq!(with_new_first("old", "new"), "new\nold\n");
        assert_eq!(with_new_first("", "new"), "new\n");
    }

    #[test]
    fn a_made_secret_is_strong() {
        assert!(new_secret().len() >= crate::unsafe_settings::SHORTEST_SECRET);
        assert!(!crate::unsafe_settings::is_guessable(&new_secret()));
    }
}
