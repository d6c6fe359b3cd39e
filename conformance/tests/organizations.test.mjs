// Organizations with teams and invitations, and administration, through the official client's plugins.
import assert from "node:assert/strict";
import { test } from "node:test";
import { adminClient, organizationClient } from "better-auth/client/plugins";
import { Browser } from "../harness/browser.mjs";
import { data, freshAddress, onEveryEngine, refusal, signIn, signUp } from "../harness/suite.mjs";

const plugins = () => [organizationClient({ teams: { enabled: true } }), adminClient()];
let slugs = 0;
const freshSlug = () => `org-${process.pid}-${(slugs += 1)}`;

onEveryEngine("organizations and administration", (server) => {
  const open = async (email) => {
    const browser = new Browser(server, { plugins: plugins() });
    return { browser, ...(await signUp(browser, email)) };
  };

  test("an organization is founded, joined by a mailed invitation, and left", async () => {
    const [owner, guest] = [await open(), await open()];
    const made = await data(owner.browser.client.organization.create({ name: "Acme", slug: freshSlug(), metadata: { plan: "pro" } }));
    assert.deepEqual([made.metadata, made.members[0].role], [{ plan: "pro" }, "owner"]);
    const invitation = await data(owner.browser.client.organization.inviteMember({ email: guest.email, role: "member" }));
    assert.ok(invitation.expiresAt instanceof Date);
    const mail = await server.mailbox.next(guest.email);
    assert.equal(mail.link, `${server.baseURL}/accept/${invitation.id}`);
    const { organization } = guest.browser.client;
    const shown = await data(organization.getInvitation({ query: { id: invitation.id } }));
    assert.deepEqual([shown.organizationName, shown.inviterEmail], ["Acme", owner.email]);
    await data(organization.acceptInvitation({ invitationId: invitation.id }));
    const { session } = await data(guest.browser.client.getSession());
    assert.equal(session.activeOrganizationId, made.id);
    const { members, total } = await data(owner.browser.client.organization.listMembers());
    assert.deepEqual([total, members.map((member) => member.user.email)], [2, [owner.email, guest.email]]);
    const asked = await data(organization.hasPermission({ permissions: { invitation: ["create"] } }));
    assert.equal(asked.success, false);
    await data(organization.leave({ organizationId: made.id }));
    assert.equal((await data(guest.browser.client.getSession())).session.activeOrganizationId, null);
    const last = owner.browser.client.organization.leave({ organizationId: made.id });
    assert.deepEqual(await refusal(last), { status: 400, code: "YOU_CANNOT_LEAVE_THE_ORGANIZATION_AS_THE_ONLY_OWNER" });
  });

  test("teams are made, entered and deleted", async () => {
    const owner = await open();
    const { organization } = owner.browser.client;
    await data(organization.create({ name: "Teams", slug: freshSlug() }));
    const team = await data(organization.createTeam({ name: "Blue" }));
    await data(organization.addTeamMember({ teamId: team.id, userId: owner.user.id }));
    await data(organization.setActiveTeam({ teamId: team.id }));
    assert.equal((await data(owner.browser.client.getSession())).session.activeTeamId, team.id);
    const active = await refusal(organization.removeTeam({ teamId: team.id }));
    assert.deepEqual(active, { status: 403, code: "YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_TEAM" });
    await data(organization.setActiveTeam({ teamId: null }));
    await data(organization.removeTeam({ teamId: team.id }));
    assert.equal((await data(organization.listTeams())).length, 1);
  });

  test("an administrator finds, bans and stands in for users", async () => {
    const [root, person] = [await open(), await open()];
    const { admin } = root.browser.client;
    assert.equal((await refusal(admin.listUsers({ query: {} }))).code, "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS");
    await server.run("user", "promote", root.email, "--role", "admin");
    const query = { filterField: "email", filterValue: person.email };
    assert.equal((await data(admin.listUsers({ query }))).users[0].id, person.user.id);
    const { session } = await data(admin.impersonateUser({ userId: person.user.id }));
    assert.equal(session.impersonatedBy, root.user.id);
    assert.equal((await data(root.browser.client.getSession())).user.email, person.email);
    await data(admin.stopImpersonating());
    assert.equal((await data(root.browser.client.getSession())).user.email, root.email);
    await data(admin.banUser({ userId: person.user.id, banReason: "spam" }));
    assert.equal(await data(person.browser.client.getSession()), null);
    const banned = person.browser.client.signIn.email({ email: person.email, password: "correct horse battery staple" });
    assert.equal((await refusal(banned)).code, "BANNED_USER");
    await data(admin.unbanUser({ userId: person.user.id }));
    await signIn(person.browser, person.email);
    const made = await data(admin.createUser({ email: freshAddress(), name: "Made", password: "a good long password", role: "user" }));
    await data(admin.removeUser({ userId: made.user.id }));
    assert.equal((await refusal(admin.getUser({ query: { id: made.user.id } }))).code, "USER_NOT_FOUND");
  });
});
