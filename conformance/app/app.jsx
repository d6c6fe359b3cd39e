// A front end as the official client's documentation builds them: React, every plugin, nothing of Tollgate's.
import { apiKeyClient } from "@better-auth/api-key/client";
import { passkeyClient } from "@better-auth/passkey/client";
import {
  adminClient,
  anonymousClient,
  deviceAuthorizationClient,
  emailOTPClient,
  jwtClient,
  lastLoginMethodClient,
  magicLinkClient,
  multiSessionClient,
  oneTimeTokenClient,
  organizationClient,
  twoFactorClient,
  usernameClient,
} from "better-auth/client/plugins";
import { createAuthClient } from "better-auth/react";
import { useRef, useState } from "react";
import { createRoot } from "react-dom/client";

const authClient = createAuthClient({
  baseURL: document.documentElement.dataset.server,
  plugins: [
    adminClient(),
    anonymousClient(),
    apiKeyClient(),
    deviceAuthorizationClient(),
    emailOTPClient(),
    jwtClient(),
    lastLoginMethodClient(),
    magicLinkClient(),
    multiSessionClient(),
    oneTimeTokenClient(),
    organizationClient({ teams: { enabled: true } }),
    passkeyClient(),
    twoFactorClient(),
    usernameClient(),
  ],
});

/** A form that calls something and shows what became of it. */
function Ask({ name, fields = [], call }) {
  const [outcome, setOutcome] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    const given = Object.fromEntries(new FormData(event.currentTarget));
    setOutcome("…");
    const { data, error } = (await call(given)) ?? { data: null, error: null };
    setOutcome(error ? `refused: ${error.code ?? error.status} ${error.message ?? ""}` : `done ${JSON.stringify(data)}`);
  };
  return (
    <form onSubmit={submit} aria-label={name}>
      {fields.map((field) => (
        <label key={field}>
          {field} <input name={field} type={field === "password" ? "password" : "text"} />
        </label>
      ))}
      <button>{name}</button>
      <output>{outcome}</output>
    </form>
  );
}

function SignedOut() {
  return (
    <>
      <Ask name="Sign up" fields={["name", "email", "password"]} call={(given) => authClient.signUp.email(given)} />
      <Ask name="Sign in" fields={["email", "password"]} call={(given) => authClient.signIn.email(given)} />
      <Ask name="Sign in with a passkey" call={() => authClient.signIn.passkey()} />
      <Ask name="Second factor" fields={["code"]} call={(given) => authClient.twoFactor.verifyTotp(given)} />
    </>
  );
}

function SignedIn({ user }) {
  const { data: organization } = authClient.useActiveOrganization();
  const { data: organizations } = authClient.useListOrganizations();
  const { data: passkeys } = authClient.useListPasskeys();
  const [key, setKey] = useState("");
  return (
    <>
      <h1>Hello {user.name}</h1>
      <p id="factor">{user.twoFactorEnabled ? "two factors" : "one factor"}</p>
      <p id="passkeys">{passkeys?.length ?? 0} passkeys</p>
      <p id="organizations">{organizations?.map(({ name }) => name).join(", ")}</p>
      <p id="active">
        {organization?.name}: {organization?.members?.map((member) => `${member.user.email} ${member.role}`).join(", ")}
      </p>
      <Ask name="Enable TOTP" fields={["password"]} call={(given) => authClient.twoFactor.enable(given)} />
      <Ask name="Verify TOTP" fields={["code"]} call={(given) => authClient.twoFactor.verifyTotp(given)} />
      <Ask name="Add a passkey" call={() => authClient.passkey.addPasskey({ name: "laptop" })} />
      <Ask name="Create organization" fields={["name", "slug"]} call={(given) => authClient.organization.create(given)} />
      <Ask name="Invite" fields={["email"]} call={({ email }) => authClient.organization.inviteMember({ email, role: "member" })} />
      <Ask name="Accept" fields={["invitationId"]} call={(given) => authClient.organization.acceptInvitation(given)} />
      <Ask
        name="Create key"
        call={async () => {
          const made = await authClient.apiKey.create({ name: "ci" });
          setKey(made.data?.key ?? "");
          return made;
        }}
      />
      <Ask
        name="Use key"
        call={async () => {
          // What a program does, elsewhere: no cookie, only the key.
          const client = createAuthClient({ baseURL: document.documentElement.dataset.server, fetchOptions: { credentials: "omit" } });
          const answer = await client.getSession({ fetchOptions: { headers: { "x-api-key": key } } });
          return { data: answer.data?.user.email, error: answer.error };
        }}
      />
      <Ask name="Sign out" call={() => authClient.signOut()} />
    </>
  );
}

function App() {
  const { data, isPending } = authClient.useSession();
  const isKnown = useRef(false);
  isKnown.current ||= !isPending;
  if (!isKnown.current) return <p>…</p>;
  return data ? <SignedIn user={data.user} /> : <SignedOut />;
}

createRoot(document.querySelector("main")).render(<App />);
