//! Errors in the dialect of Better Auth: `{"message","code"?}` with the status as the code's property.

use super::endpoint::Reply;
use http::StatusCode;
use http::header::RETRY_AFTER;
use kernel::Millis;
use serde::Serialize;

/// Why a request ends early.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// An error of the contract.
    #[error("{0:?}")]
    Code(Code),
    /// An error of the contract whose status depends on the route.
    #[error("{code}")]
    Coded { status: StatusCode, code: &'static str, message: &'static str },
    /// An error in the form of OAuth, as the device flow answers.
    #[error("{error}: {description}")]
    OAuth { status: StatusCode, error: &'static str, description: String, uncached: bool },
    /// An API key was used too often, or its uses are used up.
    #[error("{code}")]
    KeyLimited { code: &'static str, message: &'static str, wait: Option<i64> },
    /// An error whose text names what was sent.
    #[error("{message}")]
    Named { status: StatusCode, code: Option<&'static str>, message: String },
    /// An error that has a text but no code.
    #[error("{1}")]
    Message(StatusCode, &'static str),
    #[error("{0}")]
    Validation(String),
    #[error("{0} is not allowed to be set")]
    FieldNotAllowed(&'static str),
    #[error("content type {given} is not allowed")]
    ContentType { given: String, allowed: &'static str },
    /// A status without any body, as the original does for unknown routes.
    #[error("{0}")]
    Empty(StatusCode),
    #[error("too many requests")]
    TooMany { seconds: i64 },
    /// Too many wrong passwords for one account.
    #[error("too many attempts")]
    Locked { retry_at: Millis, now: Millis },
    /// Too many wrong answers where a second factor was asked for.
    #[error("too many wrong codes")]
    FactorLocked { retry_at: Millis, now: Millis },
    #[error("{0}")]
    Store(#[from] store::Error),
    #[error("{0}")]
    Busy(#[from] identity::hashing::Busy),
}

macro_rules! codes {
    ($($name:ident $code:literal $status:ident $message:literal;)*) => {
        /// The codes that clients know, each with its status and text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($name),* }

        impl Code {
            fn parts(self) -> (&'static str, StatusCode, &'static str) {
                match self { $(Code::$name => ($code, StatusCode::$status, $message)),* }
            }
        }
    };
}

codes! {
    AccountNotFound "ACCOUNT_NOT_FOUND" BAD_REQUEST "Account not found";
    AlreadySubscribed "ALREADY_SUBSCRIBED" CONFLICT "There is a subscription already. Change it instead of buying another one.";
    AnonymousAgain "ANONYMOUS_USERS_CANNOT_SIGN_IN_AGAIN_ANONYMOUSLY" BAD_REQUEST "Anonymous users cannot sign in again anonymously";
    NotAnonymous "USER_IS_NOT_ANONYMOUS" FORBIDDEN "User is not anonymous";
    InvalidOtp "INVALID_OTP" BAD_REQUEST "Invalid OTP";
    OtpExpired "OTP_EXPIRED" BAD_REQUEST "OTP expired";
    BannedUser "BANNED_USER" FORBIDDEN "You have been banned from this application. Please contact support if you believe this is an error.";
    BillingOff "BILLING_NOT_CONFIGURED" NOT_FOUND "Nothing is sold here yet: the operator has not connected Stripe.";
    BodyTooLarge "PAYLOAD_TOO_LARGE" PAYLOAD_TOO_LARGE "The request body is too large";
    BodyTooSlow "REQUEST_TIMEOUT" REQUEST_TIMEOUT "The request body did not arrive in time";
    ChangeEmailDisabled "CHANGE_EMAIL_DISABLED" BAD_REQUEST "Change email is disabled";
    CheckoutUnderWay "CHECKOUT_UNDER_WAY" CONFLICT "A checkout is being opened already. Please try again in a moment.";
    CredentialAccountNotFound "CREDENTIAL_ACCOUNT_NOT_FOUND" BAD_REQUEST "Credential account not found";
    CrossSiteLogin "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED" FORBIDDEN "Cross-site navigation login blocked. This request appears to be a CSRF attack.";
    EmailAlreadyVerified "EMAIL_ALREADY_VERIFIED" BAD_REQUEST "Email is already verified";
    EmailCanNotBeUpdated "EMAIL_CAN_NOT_BE_UPDATED" BAD_REQUEST "Email can not be updated";
    EmailMismatch "EMAIL_MISMATCH" BAD_REQUEST "Email mismatch";
    EmailNotVerified "EMAIL_NOT_VERIFIED" FORBIDDEN "Email not verified";
    FailedToGetUserInfo "FAILED_TO_GET_USER_INFO" NOT_FOUND "Failed to get user info";
    FailedToUnlinkLastAccount "FAILED_TO_UNLINK_LAST_ACCOUNT" BAD_REQUEST "You can't unlink your last account";
    InvalidCallbackUrl "INVALID_CALLBACK_URL" FORBIDDEN "Invalid callbackURL";
    InvalidEmail "INVALID_EMAIL" BAD_REQUEST "Invalid email";
    InvalidEmailOrPassword "INVALID_EMAIL_OR_PASSWORD" UNAUTHORIZED "Invalid email or password";
    InvalidErrorCallbackUrl "INVALID_ERROR_CALLBACK_URL" FORBIDDEN "Invalid errorCallbackURL";
    InvalidJson "BAD_REQUEST" BAD_REQUEST "Invalid JSON in request body";
    InvalidNewUserCallbackUrl "INVALID_NEW_USER_CALLBACK_URL" FORBIDDEN "Invalid newUserCallbackURL";
    InvalidOrigin "INVALID_ORIGIN" FORBIDDEN "Invalid origin";
    InvalidPassword "INVALID_PASSWORD" BAD_REQUEST "Invalid password";
    InvalidRedirectUrl "INVALID_REDIRECT_URL" FORBIDDEN "Invalid redirectURL";
    InvalidSessionToken "INVALID_SESSION_TOKEN" UNAUTHORIZED "Invalid session token";
    InvalidToken "INVALID_TOKEN" BAD_REQUEST "Invalid token";
    UnknownLink "INVALID_TOKEN" NOT_FOUND "Invalid token";
    DeferRequired "METHOD_NOT_ALLOWED_DEFER_SESSION_REQUIRED" METHOD_NOT_ALLOWED "POST method requires deferSessionRefresh to be enabled in session config";
    InvalidUsername "INVALID_USERNAME" BAD_REQUEST "Username is invalid";
    InvalidUsernameOrPassword "INVALID_USERNAME_OR_PASSWORD" UNAUTHORIZED "Invalid username or password";
    MayNotBuy "YOU_ARE_NOT_ALLOWED_TO_BUY_FOR_THIS_ORGANIZATION" FORBIDDEN "Only owners and administrators buy for this organization";
    MissingOrNullOrigin "MISSING_OR_NULL_ORIGIN" FORBIDDEN "Missing or null Origin";
    NotAMember "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION" FORBIDDEN "User is not a member of the organization";
    NotFound "NOT_FOUND" NOT_FOUND "Not found";
    NotSubscribed "SUBSCRIPTION_NOT_FOUND" BAD_REQUEST "There is no subscription that could be changed";
    PasswordCompromised "PASSWORD_COMPROMISED" BAD_REQUEST "This password is one of the first that guessers try. Please choose another one.";
    PasswordTooLong "PASSWORD_TOO_LONG" BAD_REQUEST "Password too long";
    PasswordTooShort "PASSWORD_TOO_SHORT" BAD_REQUEST "Password too short";
    PaymentDeclined "PAYMENT_DECLINED" PAYMENT_REQUIRED "The payment was declined, and nothing was changed. Please try another card.";
    SessionExpired "SESSION_EXPIRED" BAD_REQUEST "Session expired. Re-authenticate to perform this action.";
    SessionNotFresh "SESSION_NOT_FRESH" FORBIDDEN "Session is not fresh";
    SignInDisabled "EMAIL_PASSWORD_DISABLED" BAD_REQUEST "Email and password is not enabled";
    SignUpDisabled "EMAIL_PASSWORD_SIGN_UP_DISABLED" BAD_REQUEST "Email and password sign up is not enabled";
    StripeRefused "STRIPE_REFUSED" BAD_GATEWAY "The payment service refused the request. Nothing was charged; please tell the operator.";
    StripeSilent "STRIPE_UNAVAILABLE" SERVICE_UNAVAILABLE "The payment service does not answer. Please try again in a moment.";
    Unauthorized "UNAUTHORIZED" UNAUTHORIZED "Unauthorized";
    UsernameTaken "USERNAME_IS_ALREADY_TAKEN" BAD_REQUEST "Username is already taken. Please try another.";
    FailedToCreateUser "FAILED_TO_CREATE_USER" UNPROCESSABLE_ENTITY "Failed to create user";
    UserExists "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL" UNPROCESSABLE_ENTITY "User already exists. Use another email.";
    UserNotFound "USER_NOT_FOUND" BAD_REQUEST "User not found";
    FactorCodeExpired "OTP_HAS_EXPIRED" BAD_REQUEST "OTP has expired";
    OtpNotConfigured "OTP_NOT_CONFIGURED" BAD_REQUEST "OTP is not available";
    TotpNotEnabled "TOTP_NOT_ENABLED" BAD_REQUEST "TOTP not enabled";
    TotpAlreadyEnabled "TOTP_ALREADY_ENABLED" BAD_REQUEST "TOTP is already enabled";
    TwoFactorNotEnabled "TWO_FACTOR_NOT_ENABLED" BAD_REQUEST "Two factor isn't enabled";
    BackupCodesNotEnabled "BACKUP_CODES_NOT_ENABLED" BAD_REQUEST "Backup codes aren't enabled";
    WrongBackup "INVALID_BACKUP_CODE" UNAUTHORIZED "Invalid backup code";
    WrongAnswer "INVALID_CODE" UNAUTHORIZED "Invalid code";
    TooManyCodes "TOO_MANY_ATTEMPTS_REQUEST_NEW_CODE" BAD_REQUEST "Too many attempts. Please request a new code.";
    InvalidTwoFactorCookie "INVALID_TWO_FACTOR_COOKIE" UNAUTHORIZED "Invalid two factor cookie";
    ChallengeNotFound "CHALLENGE_NOT_FOUND" BAD_REQUEST "Challenge not found";
    NotYourPasskey "YOU_ARE_NOT_ALLOWED_TO_REGISTER_THIS_PASSKEY" UNAUTHORIZED "You are not allowed to register this passkey";
    RegistrationUnreadable "FAILED_TO_VERIFY_REGISTRATION" BAD_REQUEST "Failed to verify registration";
    RegistrationRefused "FAILED_TO_VERIFY_REGISTRATION" INTERNAL_SERVER_ERROR "Failed to verify registration";
    PasskeyTaken "PREVIOUSLY_REGISTERED" BAD_REQUEST "Previously registered";
    PasskeyUnknown "PASSKEY_NOT_FOUND" UNAUTHORIZED "Passkey not found";
    PasskeyAbsent "PASSKEY_NOT_FOUND" NOT_FOUND "Passkey not found";
    PasskeyRefused "AUTHENTICATION_FAILED" BAD_REQUEST "Authentication failed";
    PasskeyNotSigned "AUTHENTICATION_FAILED" UNAUTHORIZED "Authentication failed";
}

/// How long a caller should stay away when the database or the hashing pool cannot answer.
const UNAVAILABLE_SECONDS: i64 = 1;

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Failure::Code(code)
    }
}

impl Failure {
    pub fn into_reply(self) -> Reply {
        match self {
            Failure::Code(code) => {
                let (code, status, message) = code.parts();
                answer(status, message, Some(code))
            }
            Failure::Coded { status, code, message } => answer(status, message, Some(code)),
            Failure::OAuth { status, error, description, uncached } => {
                let reply = Reply::json(&OAuthBody { error, error_description: &description }).status(status);
                if uncached { reply.uncached() } else { reply }
            }
            Failure::KeyLimited { code, message, wait } => {
                let details = wait.map(|milliseconds| Details { try_again_in: milliseconds });
                let reply = Reply::json(&DetailedBody { message, code, details });
                let reply = reply.status(StatusCode::TOO_MANY_REQUESTS);
                match wait {
                    Some(wait) => {
                        let seconds = ((wait + 999) / 1_000).max(1).to_string();
                        reply.header_text(RETRY_AFTER.as_str(), &seconds)
                    }
                    None => reply,
                }
            }
            Failure::Named { status, code, message } => answer(status, &message, code),
            Failure::Message(status, message) => answer(status, message, None),
            Failure::Validation(message) => {
                answer(StatusCode::BAD_REQUEST, &message, Some("VALIDATION_ERROR"))
            }
            Failure::FieldNotAllowed(_) => {
                answer(StatusCode::BAD_REQUEST, &self.to_string(), Some("FIELD_NOT_ALLOWED"))
            }
            Failure::ContentType { given, allowed } => {
                let message = format!("Content-Type \"{given}\" is not allowed. Allowed types: {allowed}");
                answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message, Some("UNSUPPORTED_MEDIA_TYPE"))
            }
            // Of these the original says at least what it would have been.
            Failure::Empty(status) if status != StatusCode::NOT_FOUND => {
                Reply::bytes(Vec::new()).status(status)
            }
            Failure::Empty(status) => Reply::empty(status),
            // The original's answer to the letter: its clients read `X-Retry-After`.
            Failure::TooMany { seconds } => {
                answer(StatusCode::TOO_MANY_REQUESTS, "Too many requests. Please try again later.", None)
                    .header_text("x-retry-after", &seconds.to_string())
            }
            Failure::Locked { retry_at, now } => {
                let seconds = ((retry_at.0 - now.0 + 999) / 1_000).max(1).to_string();
                answer(
                    StatusCode::TOO_MANY_REQUESTS,
                    "Too many wrong passwords for this account. Wait, or reset the password by mail.",
                    Some("TOO_MANY_ATTEMPTS"),
                )
                .header_text("x-retry-after", &seconds)
                .header_text(RETRY_AFTER.as_str(), &seconds)
            }
            Failure::FactorLocked { retry_at, now } => {
                let seconds = ((retry_at.0 - now.0 + 999) / 1_000).max(1).to_string();
                answer(
                    StatusCode::TOO_MANY_REQUESTS,
                    "Too many failed verification attempts. Your account is temporarily locked. Please try again later.",
                    Some("ACCOUNT_TEMPORARILY_LOCKED"),
                )
                .header_text("x-retry-after", &seconds)
                .header_text(RETRY_AFTER.as_str(), &seconds)
            }
            Failure::Store(error) if error.is_unavailable() => {
                tracing::warn!(%error, "the store is not available");
                unavailable()
            }
            Failure::Store(store::Error::Unstorable) => {
                let said = "[body] Invalid input: a null character cannot be stored";
                answer(StatusCode::BAD_REQUEST, said, Some("VALIDATION_ERROR"))
            }
            Failure::Store(cause) => {
                tracing::error!(error = %cause, "a statement failed");
                answer(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Something went wrong on our side",
                    Some("INTERNAL_SERVER_ERROR"),
                )
            }
            Failure::Busy(_) => unavailable(),
        }
    }
}

fn unavailable() -> Reply {
    answer(
        StatusCode::SERVICE_UNAVAILABLE,
        "The service is busy. Please try again in a moment.",
        Some("SERVICE_UNAVAILABLE"),
    )
    .header_text(RETRY_AFTER.as_str(), &UNAVAILABLE_SECONDS.to_string())
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct OAuthBody<'a> {
    error: &'a str,
    error_description: &'a str,
}

#[derive(Serialize)]
struct DetailedBody<'a> {
    message: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Serialize)]
struct Details {
    /// In milliseconds.
    #[serde(rename = "tryAgainIn")]
    try_again_in: i64,
}

/// An error as clients read it.
pub fn answer(status: StatusCode, message: &str, code: Option<&str>) -> Reply {
    Reply::json(&Body { message, code }).status(status)
}
