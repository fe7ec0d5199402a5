import com.fasterxml.jackson.annotation.JsonAutoDetect;
import com.fasterxml.jackson.annotation.PropertyAccessor;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.apache.iceberg.CatalogProperties;
import org.apache.iceberg.Table;
import org.apache.iceberg.TableMetadataParser;
import org.apache.iceberg.catalog.Namespace;
import org.apache.iceberg.catalog.TableIdentifier;
import org.apache.iceberg.exceptions.AlreadyExistsException;
import org.apache.iceberg.exceptions.NoSuchNamespaceException;
import org.apache.iceberg.exceptions.NoSuchTableException;
import org.apache.iceberg.exceptions.NotAuthorizedException;
import org.apache.iceberg.io.FileIO;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.io.OutputFile;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.CatalogHandlers;
import org.apache.iceberg.rest.RESTCatalogProperties.SnapshotMode;
import org.apache.iceberg.rest.RESTSerializers;
import org.apache.iceberg.rest.RESTUtil;
import org.apache.iceberg.rest.requests.CreateNamespaceRequest;
import org.apache.iceberg.rest.requests.RegisterTableRequest;
import org.apache.iceberg.rest.requests.UpdateNamespacePropertiesRequest;
import org.apache.iceberg.rest.responses.ConfigResponse;
import org.apache.iceberg.rest.responses.ErrorResponse;

/**
 * A REST catalog on loopback, until it is ended: Iceberg's own catalog of a database, handlers and JSON behind
 * the JDK's HTTP server, for tables in files of this machine.
 *
 * <p>Started with a port and "overwrite" or "plain": whether a table may be registered over one that is there. Plain is
 * what Iceberg's catalog does by itself. Who asks must bring the token of the environment's REST_TOKEN.
 */
public final class RestServer {
  private static final String SEPARATOR = "%1F"; // of a namespace's levels, in a path
  private static final ObjectMapper JSON =
      new ObjectMapper()
          .setVisibility(PropertyAccessor.FIELD, JsonAutoDetect.Visibility.ANY)
          .configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false)
          .setPropertyNamingStrategy(PropertyNamingStrategies.KEBAB_CASE);

  private final JdbcCatalog catalog;
  private final String bearer = "Bearer " + System.getenv("REST_TOKEN");

  private RestServer(JdbcCatalog catalog) {
    this.catalog = catalog;
  }

  public static void main(String[] arguments) throws IOException {
    RESTSerializers.registerAll(JSON);
    JdbcCatalog catalog = arguments[1].equals("overwrite") ? new OverwritingCatalog() : new JdbcCatalog();
    Map<String, String> properties =
        Map.of(
            CatalogProperties.URI, "jdbc:sqlite::memory:",
            CatalogProperties.CLIENT_POOL_SIZE, "1", // each connection has a memory of its own
            CatalogProperties.WAREHOUSE_LOCATION, "/nowhere", // tables are registered, none is made
            CatalogProperties.FILE_IO_IMPL, LocalFiles.class.getName());
    catalog.initialize("mirror", properties);
    // Its own executor answers one request after the other.
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])), 0);
    server.createContext("/v1/", new RestServer(catalog)::handle);
    server.start();
  }

  private void handle(HttpExchange exchange) throws IOException {
    int status = 200;
    Object answer;
    try {
      if (!bearer.equals(exchange.getRequestHeaders().getFirst("Authorization"))) {
        throw new NotAuthorizedException("not the token");
      }
      answer = answer(exchange);
    } catch (IOException | RuntimeException error) {
      status = statusOf(error);
      answer =
          ErrorResponse.builder()
              .responseCode(status)
              .withType(error.getClass().getSimpleName())
              .withMessage(error.getMessage())
              .build();
    }
    if (answer == null) {
      exchange.sendResponseHeaders(204, -1);
    } else {
      byte[] text = JSON.writeValueAsBytes(answer);
      exchange.getResponseHeaders().set("Content-Type", "application/json");
      exchange.sendResponseHeaders(status, text.length);
      exchange.getResponseBody().write(text);
    }
    exchange.close();
  }

  /** Answers what a mirror and its readers ask; null is an answer without a body. */
  private Object answer(HttpExchange exchange) throws IOException {
    String[] path = exchange.getRequestURI().getRawPath().substring("/v1/".length()).split("/");
    Namespace namespace = path.length > 1 ? RESTUtil.decodeNamespace(path[1], SEPARATOR) : Namespace.empty();
    TableIdentifier table = path.length > 3 ? TableIdentifier.of(namespace, RESTUtil.decodeString(path[3])) : null;
    String query = exchange.getRequestURI().getRawQuery();
    String what = path.length > 2 ? path[2] + (table == null ? "" : "/table") : path[0] + "/" + path.length;
    switch (exchange.getRequestMethod() + " " + what) {
      case "GET config/1":
        return ConfigResponse.builder().build();
      case "POST namespaces/1":
        return CatalogHandlers.createNamespace(catalog, read(exchange, CreateNamespaceRequest.class));
      case "GET namespaces/2":
        return CatalogHandlers.loadNamespace(catalog, namespace);
      case "POST properties":
        return CatalogHandlers.updateNamespaceProperties(
            catalog, namespace, read(exchange, UpdateNamespacePropertiesRequest.class));
      case "GET tables":
        return CatalogHandlers.listTables(catalog, namespace);
      case "POST register":
        return CatalogHandlers.registerTable(catalog, namespace, read(exchange, RegisterTableRequest.class));
      case "GET tables/table":
        return CatalogHandlers.loadTable(catalog, table, SnapshotMode.ALL);
      case "DELETE tables/table":
        if (query != null && query.equalsIgnoreCase("purgeRequested=true")) {
          CatalogHandlers.purgeTable(catalog, table);
        } else {
          CatalogHandlers.dropTable(catalog, table);
        }
        return null;
      default:
        throw new UnsupportedOperationException(what);
    }
  }

  private static <T> T read(HttpExchange exchange, Class<T> kind) throws IOException {
    return JSON.readValue(exchange.getRequestBody(), kind);
  }

  /** The status that the protocol has for an error; it has none of its own for a table whose metadata is gone. */
  private static int statusOf(Exception error) {
    if (error instanceof NotAuthorizedException) {
      return 401;
    } else if (error instanceof NoSuchNamespaceException || error instanceof NoSuchTableException) {
      return 404;
    } else if (error instanceof AlreadyExistsException) {
      return 409;
    } else if (error instanceof UnsupportedOperationException) {
      return 406;
    }
    return 500;
  }

  /** Registers over a table that is there; nobody sees it missing, since nobody else is answered meanwhile. */
  private static final class OverwritingCatalog extends JdbcCatalog {
    @Override
    public Table registerTable(TableIdentifier table, String location, boolean overwrite) {
      if (overwrite) {
        TableMetadataParser.read(newTableOps(table).io().newInputFile(location)); // else what is there would be lost
        dropTable(table, false);
      }
      return registerTable(table, location);
    }
  }

  /** Files by their paths. */
  public static final class LocalFiles implements FileIO {
    @Override
    public InputFile newInputFile(String path) {
      return org.apache.iceberg.Files.localInput(path);
    }

    @Override
    public OutputFile newOutputFile(String path) {
      return org.apache.iceberg.Files.localOutput(path);
    }

    @Override
    public void deleteFile(String path) {
      try {
        Files.delete(Path.of(path));
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }
}
