-- Organizations, who belongs to them, whom they have invited, and their teams.

CREATE TABLE organizations (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  slug TEXT NOT NULL UNIQUE,
  logo TEXT,
  -- The text of a JSON object, as the app sent it.
  metadata TEXT,
  created_at BIGINT NOT NULL
) /* in key order */;

-- `role` holds one name or several, separated by commas.
CREATE TABLE members (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  role TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  UNIQUE (organization_id, user_id)
);
CREATE INDEX members_by_user ON members (user_id, created_at);

-- `team_id` holds one id or several, separated by commas.
CREATE TABLE invitations (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  email TEXT NOT NULL,
  role TEXT NOT NULL,
  team_id TEXT,
  status TEXT NOT NULL,
  inviter_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  expires_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX invitations_by_organization ON invitations (organization_id, created_at, id);
CREATE INDEX invitations_waiting ON invitations (organization_id, expires_at) WHERE status = 'pending';
CREATE INDEX invitations_by_address ON invitations (email, created_at, id);
CREATE INDEX invitations_by_inviter ON invitations (inviter_id);

CREATE TABLE teams (
  id TEXT PRIMARY KEY,
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT
);
CREATE INDEX teams_by_organization ON teams (organization_id, created_at, id);

CREATE TABLE team_members (
  id TEXT PRIMARY KEY,
  team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  created_at BIGINT NOT NULL,
  UNIQUE (team_id, user_id)
);
CREATE INDEX team_members_by_user ON team_members (user_id);

-- Whoever leaves an organization is no longer active in it, in any browser.
CREATE INDEX sessions_by_organization ON sessions (active_organization_id) WHERE active_organization_id IS NOT NULL;
CREATE INDEX sessions_by_team ON sessions (active_team_id) WHERE active_team_id IS NOT NULL;
-- An administrator who is stopped acts for nobody any more.
CREATE INDEX sessions_by_impersonator ON sessions (impersonated_by) WHERE impersonated_by IS NOT NULL;

-- What the list of users is sorted by.
CREATE INDEX users_by_creation ON users (created_at, id);
CREATE INDEX users_by_name ON users (name, id);
